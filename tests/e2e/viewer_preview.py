"""The pages over sample data and real pixels, without a server behind them."""

import base64
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
from flask import Flask, Response, redirect, render_template, request, send_from_directory
from jinja2 import StrictUndefined
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from werkzeug.serving import make_server

from smart_app.presentation import (
    AuditLine,
    Badge,
    FindingBar,
    PriorStudy,
    SessionView,
    StudyLine,
    StudyPage,
    VerdictLine,
)

ROOM = Path(__file__).parent.parent.parent / "smart_app"
BASE = "/app/k3v9"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'"
)
BADGES = {
    "urgent": ("Urgent", "▲"),
    "flagged": ("Flagged", "◆"),
    "normal": ("No finding above threshold", "○"),
    "declined": ("Not analysed", "—"),
    "failed": ("Processing failed", "✕"),
    "queued": ("Waiting for analysis", "…"),
}


def badge(style: str) -> Badge:
    word, mark = BADGES[style]
    return Badge(word, mark, style)


@cache
def radiograph() -> NDArray[np.uint16]:
    """Give the chest radiograph of pydicom-data: MONOCHROME1, 15 bits."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    return pydicom.dcmread(str(path)).pixel_array.astype(np.uint16)


@cache
def ct_slice(number: int, size: int = 256) -> NDArray[np.uint16]:
    """Make a slice of a body with two lungs and a spine; stored = Hounsfield units + 1024."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    units = np.full((size, size), -1000, np.float32)
    ellipses = [(0, 0, 0.42, 0.32, 40)]
    grown = 0.1 + 0.08 * np.sin(np.pi * number / 40)
    ellipses += [(side, 0, grown, grown * 1.4, -850) for side in (-0.19, 0.19)]
    ellipses += [(0, 0.22, 0.05, 0.05, 700)]
    for across, down, wide, tall, value in ellipses:
        inside = 1 - np.hypot((x - across) / wide, (y - down) / tall)
        part = np.clip(inside * min(wide, tall) * size + 0.5, 0, 1)
        units += part * (value - units)
    units += np.random.default_rng(number).normal(0, 12, units.shape)
    return np.clip(units + 1024, 0, 65535).astype(np.uint16)


def cells(rows: int = 10, columns: int = 10) -> str:
    """Make the cells of a saliency map with one strong place."""
    y, x = np.mgrid[0:rows, 0:columns]
    blob = np.exp(-((y - 0.62 * rows) ** 2 + (x - 0.3 * columns) ** 2) / (0.04 * rows * columns))
    return base64.b64encode((blob * 255).astype(np.uint8).tobytes()).decode()


def finding(name: str, probability: float, threshold: float, meaning: str) -> FindingBar:
    return FindingBar(
        name=name,
        probability=f"{probability:.2f}",
        threshold=f"{threshold:.2f}",
        percent=round(probability * 100),
        threshold_percent=round(threshold * 100),
        positive=probability >= threshold,
        meaning=meaning,
    )


FINDINGS = [
    finding("Abnormal chest radiograph", 0.97, 0.68, "Of 100 such flags here, 81 were abnormal."),
    finding("Consolidation", 0.46, 0.21, "Of 100 such flags here, 37 held a consolidation."),
    finding("Mass or nodule", 0.06, 0.15, "Of 100 studies below, 2 still held a mass."),
]


@dataclass
class Preview:
    """What the pages show, and what was sent to them."""

    images: str = f"{BASE}/images/chest"
    style: str = "urgent"
    changes: dict[str, Any] = field(default_factory=dict)
    lines: list[StudyLine] = field(default_factory=list)
    posted: list[dict[str, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    secret: str = ""
    broken: bool = False
    can_review: bool = True
    can_sign: bool = False

    def study(self) -> StudyPage:
        """Give the study page's values."""
        values: dict[str, Any] = {
            "result_id": "8d5f0f6e-2c55-5f0e-9b3d-4a1d0e6f7a10",
            "badge": badge(self.style),
            "says": "URGENT: Abnormal chest radiograph, Consolidation above threshold.",
            "patient_name": "PATIENT, Test",
            "birth_date": "1 Jan 1970",
            "sex": "F",
            "patient_id": "MRN 123456",
            "accession_number": "ACC1001",
            "study_line": "DX CHEST Chest PA",
            "taken": "20 Nov 2026 09:12",
            "findings": FINDINGS,
            "explained": "Consolidation",
            "shows_overlay": True,
            "analysed": True,
            "model_name": "cxr-lite0",
            "model_version": "1.0.0",
            "model_sha256": "5f" * 32,
            "analysed_at": "20 Nov 2026 09:30:04 GMT",
            "images_url": self.images,
            "prior": PriorStudy(
                result_id="5", label="3 Mar 2025, DX CHEST", images_url=f"{BASE}/images/prior"
            ),
            "ohif_url": "https://ohif.example.org/viewer?StudyInstanceUIDs=1.2.3",
            "verdicts": [],
            "amendments": [],
            "signable": True,
            "reviewed": False,
            "reasons": [
                ("false-positive", "The finding is not there"),
                ("false-negative", "A finding was missed"),
                ("wrong-place", "The map points to the wrong place"),
                ("quality", "Image quality or artefact"),
            ],
            "artefacts": [
                (name, f"{BASE}/files/{name}") for name in ("bundle.json", "oru.hl7", "card.json")
            ],
            "deliveries": [("RIS (HL7 v2)", "delivered"), ("EHR (FHIR)", "under way")],
            "events": [
                AuditLine(
                    when="20 Nov 2026 09:30:05 GMT",
                    who="dr.reader",
                    what="read, viewed study",
                    outcome="success",
                )
            ],
            "uid": "1.2.826.0.1.3680043.8.498.1",
            **self.changes,
        }
        if self.posted:
            last = self.posted[-1]
            values["reviewed"] = True
            values["verdicts"] = [
                VerdictLine(
                    when="20 Nov 2026 09:41",
                    who="dr.reader",
                    agreement="Agrees" if last["agreement"] == "agree" else "Disagrees",
                    radpeer=last["radpeer"],
                    reason=dict(values["reasons"]).get(last.get("reason", ""), ""),
                    comment=last.get("comment", ""),
                )
            ]
        return StudyPage(**values)

    def session(self) -> SessionView:
        """Give who is signed in."""
        return SessionView(
            user="dr.reader",
            role="radiologist",
            ehr="Example EHR",
            can_review=self.can_review,
            can_sign=self.can_sign,
            can_see_worklist=True,
            can_see_operations=False,
            can_see_audit=True,
            patient_bound=False,
        )

    def worklist(self) -> dict[str, Any]:
        """Give the worklist's values."""
        counts: dict[str, int] = {}
        for each in self.lines:
            counts[each.badge.style] = counts.get(each.badge.style, 0) + 1
        return {
            "lines": self.lines,
            "filters": SimpleNamespace(
                state="open",
                centre="",
                priority="",
                open_days=14,
                centres=[("n1", "North Hospital"), ("s1", "South Hospital")],
            ),
            "counts": counts,
            "etag": self.etag(),
            "more": 0,
        }

    def etag(self) -> str:
        """Give the state of the lines."""
        text = " ".join(f"{each.result_id}{each.badge.style}" for each in self.lines)
        return f'"{zlib.crc32(text.encode()):08x}"'


def line(number: int, style: str, due: str, *, overdue: bool = False) -> StudyLine:
    """Make one line of the worklist."""
    names = (
        "PATIENT, Test One",
        "PATIENT, Test Two",
        "PATIENT, Test Three",
        "PATIENT, Tést Four",
        "PATIENT, Test Five",
        "PATIENT, Test Six",
    )
    says = {
        "urgent": "URGENT: Abnormal chest radiograph, Consolidation above threshold.",
        "flagged": "FLAGGED: Mass or nodule above threshold.",
        "normal": "No listed finding above its threshold.",
        "declined": "NOT ANALYSED BY AI: the view is lateral; only frontal views are read.",
        "failed": "AI PROCESSING FAILED: the archive sent an incomplete image. Retried 3 times.",
        "queued": "There is no result yet. That does not mean no finding.",
    }
    return StudyLine(
        result_id=f"r{number}",
        url=f"{BASE}/studies/r{number}",
        badge=badge(style),
        says=says[style],
        patient=names[number % len(names)],
        study="DX CHEST Chest PA",
        noticed="20 Nov 2026 09:30",
        due=due,
        overdue=overdue,
        centre=("North Hospital", "South Hospital")[number % 2],
        modality="DX",
        delivery="delivered",
        state="published",
    )


def sample_lines() -> list[StudyLine]:
    return [
        line(0, "urgent", "4 min late", overdue=True),
        line(1, "urgent", "in 22 min"),
        line(2, "flagged", "in 48 min"),
        line(3, "declined", "in 3 h"),
        line(4, "failed", "in 3 h"),
        line(5, "normal", "in 6 h"),
        line(6, "queued", ""),
    ]


def _manifest(
    prefix: str, pixels: NDArray[np.uint16], count: int, **changes: Any
) -> dict[str, Any]:
    return {
        "images": [
            {
                "url": f"{BASE}/frames/{prefix}/{number}",
                "rows": pixels.shape[0],
                "columns": pixels.shape[1],
                "series": 0,
                "label": f"Axial {number + 1}" if count > 1 else "Chest PA",
                "invert": count == 1,
                "slope": 1,
                "intercept": -1024 if count > 1 else 0,
                "window": {"center": 40, "width": 400}
                if count > 1
                else {"center": 15000, "width": 30000},
                "spacing_mm": [1.4, 1.4] if count > 1 else [0.2, 0.2],
                "analysed": number == count // 2,
            }
            for number in range(count)
        ],
        "series": [{"label": prefix, "first": 0, "count": count}],
        "presets": [
            {"name": "Soft", "center": 40, "width": 400},
            {"name": "Lung", "center": -600, "width": 1500},
            {"name": "Bone", "center": 400, "width": 1800},
        ]
        if count > 1
        else [
            {"name": "Chest", "center": 15000, "width": 30000},
            {"name": "Lung", "center": 9000, "width": 14000},
        ],
        "overlay": {
            "label": "Saliency of “Consolidation”",
            "rows": 10,
            "columns": 10,
            "cells": cells(),
        },
        **changes,
    }


def preview(state: Preview) -> Flask:  # noqa: C901 - a list of routes
    """Make the application of the preview."""
    app = Flask(__name__, template_folder=str(ROOM / "templates"), static_folder=None)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    chest = radiograph()
    frames = {
        "chest/0": chest.tobytes(),
        "prior/0": np.ascontiguousarray(chest[:, ::-1]).tobytes(),
        **{f"ct/{number}": ct_slice(number).tobytes() for number in range(40)},
    }
    manifests = {
        "chest": _manifest("chest", chest, 1),
        "prior": _manifest("prior", chest, 1, overlay=None),
        "ct": _manifest("ct", ct_slice(0), 40),
        "short": _manifest("short", chest, 1),
        "gone": _manifest("gone", chest, 1),
    }
    frames["short/0"] = frames["chest/0"][:1000]
    stage = {"base": BASE, "site_name": "Example Radiology Network"}

    def page(template: str, **values: Any) -> Response:
        values = {"session": state.session(), **stage, **values}
        return Response(render_template(template, **values), content_type="text/html")

    @app.before_request
    def gate() -> Response | None:
        state.asked.append(request.path)
        state.secrets.append(request.headers.get("Authorization", ""))
        if state.broken and "lines" in request.path:
            return Response(status=503)
        if not state.secret or not request.path.startswith(BASE):
            return None
        if request.headers.get("Authorization") == f"Session {state.secret}":
            return None
        values = {
            "session": None,
            "shell": True,
            "status": 401,
            "title": "Opening",
            "says": "This page opens by itself where its session is still known.",
        }
        content = render_template("error.html", **values)
        return Response(content, 401, content_type="text/html")

    @app.after_request
    def headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.get("/static/<name>")
    def static(name: str) -> Response:
        return send_from_directory(ROOM / "static", name)

    @app.get(f"{BASE}/studies/<_result_id>")
    def study(_result_id: str) -> Response:
        return page("viewer.html", study=state.study())

    @app.post(f"{BASE}/studies/<result_id>/verdict")
    def verdict(result_id: str) -> Any:
        state.posted.append(dict(request.form))
        return redirect(f"{BASE}/studies/{result_id}", 303)

    @app.get(f"{BASE}/worklist")
    def worklist() -> Response:
        return page("worklist.html", **state.worklist())

    @app.get(f"{BASE}/worklist/lines")
    def lines() -> Response:
        if request.headers.get("If-None-Match") == state.etag():
            return Response(status=304)
        response = page("worklist_lines.html", **state.worklist())
        response.headers["ETag"] = state.etag()
        return response

    @app.get(f"{BASE}/images/<name>")
    def images(name: str) -> Any:
        return manifests[name] if name in manifests else Response(status=404)

    @app.get(f"{BASE}/frames/<path:name>")
    def frame(name: str) -> Response:
        if name not in frames:
            return Response(status=404)
        return Response(frames[name], content_type="application/octet-stream")

    @app.get(f"{BASE}/files/<name>")
    def file(name: str) -> Response:
        return Response(name, content_type="text/plain")

    @app.get("/sign-in")
    def signin() -> Response:
        ehrs = [SimpleNamespace(name=name, url=f"/launch/{name[0]}") for name in ("Alpha", "Beta")]
        says = "That token is not known."
        values = {"ehrs": ehrs, "local": True, "message": says, "study": ""}
        return page("signin.html", session=None, base="", **values)

    @app.get(f"{BASE}/break-glass")
    def break_glass() -> Response:
        reasons = [("ETREAT", "Emergency treatment"), ("COVERAGE", "Cover for a colleague")]
        return page("break_glass.html", action=f"{BASE}/break-glass", reasons=reasons)

    @app.get("/error")
    def error() -> Response:
        says = "There is no such study, or this session may not see it."
        return page("error.html", status=404, title="Not found", says=says)

    return app


@contextmanager
def served(state: Preview) -> Iterator[str]:
    """Serve the preview on a free port; give its address."""
    server = make_server("127.0.0.1", 0, preview(state), threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    started = Preview(lines=sample_lines())
    make_server("127.0.0.1", 5055, preview(started), threaded=True).serve_forever()
