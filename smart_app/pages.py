"""The pages of a signed-in person: the worklist, one study, its images, a verdict."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

import numpy as np
import orjson
from flask import Blueprint, Response, redirect, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import NotFound

from ai_engine.result import TriageResult
from cds_server.access import EMERGENCY_REASONS, Access
from cds_server.errors import Forbidden
from cds_server.feedback import DISAGREEMENTS, RADPEER, Agreement, Verdict
from cds_server.network import Network
from cds_server.permissions import Permission, may
from cds_server.ports import Clock, StudyEntry
from cds_server.study_images import ArchiveImages
from cds_server.web.doors import session, viewer
from cds_server.web.problems import BadRequest
from cds_server.worklist import Show, WorklistPage, WorklistQuery
from fhir_mappers import codes
from fhir_mappers.report_context import DICOM_FILES, DisplayMode, SignOff
from fhir_mappers.report_context import Verdict as SignedVerdict
from fhir_mappers.viewer_images import CT_WINDOWS, Pixels
from fhir_mappers.wording import explained_finding
from smart_app.launching import ehr_name
from smart_app.presentation import RANKS, Around, session_view, study_line, study_page
from smart_app.rendering import page, text

_LONGEST_COMMENT = 1000
_MOST_LINES = 200
_ARTEFACTS = {
    "bundle.json": "application/fhir+json",
    "card.json": "application/json",
    "oru.hl7": "text/plain; charset=utf-8",
    "original.png": "image/png",
    "overlay.png": "image/png",
} | dict.fromkeys(DICOM_FILES, "application/dicom")


class StudyPages:
    """What the pages show, put together from the gate and the archive.

    Parameters
    ----------
    access
        The gate to stored results.
    images
        The images of studies.
    network
        Centres and EHRs, for their names.
    clock
        What time it is.
    images_open_for
        How long images stay open without another look.
    open_for
        How long past its target a study stays on the open worklist.
    compresses
        Whether pixels are compressed on the way.
    ohif_url
        Of a viewer elsewhere, or empty.
    """

    def __init__(  # noqa: PLR0913 - every collaborator of the pages, by name
        self,
        access: Access,
        *,
        images: ArchiveImages,
        network: Network,
        clock: Clock,
        images_open_for: timedelta,
        open_for: timedelta = timedelta(days=14),
        compresses: bool = False,
        ohif_url: str = "",
    ) -> None:
        self._access = access
        self._images = images
        self._network = network
        self._clock = clock
        self._images_open_for = images_open_for
        self._open_for = open_for
        self._compresses = compresses
        self._ohif_url = ohif_url

    def around(self) -> dict[str, object]:
        """Give what every page of a session has."""
        return {
            "base": f"/app/{session().handle}",
            "site_name": self._access.site.name,
            "session": session_view(session(), ehr_name(self._network, session().fhir_base_url)),
        }

    # ── Worklist ─────────────────────────────────────────────────────────────────────────────────

    def worklist(self) -> Response:
        """Give the worklist; where the launch is about one patient, that patient's studies."""
        lines = self._lines(self._access.worklist(self._query(), viewer()))
        return page("worklist.html", self.around() | lines)

    def lines(self) -> Response:
        """Give the lines alone, if they changed; what did not change is shown to nobody again."""
        peeked = self._lines(self._access.peek(self._query(), viewer()))
        etag = str(peeked["etag"])
        if request.headers.get("If-None-Match", "").strip('"') == etag:
            return Response(status=HTTPStatus.NOT_MODIFIED, headers={"ETag": f'"{etag}"'})
        values = self._lines(self._access.worklist(self._query(), viewer()))
        response = Response(
            text("worklist_lines.html", **self.around(), **values),
            content_type="text/html; charset=utf-8",
        )
        response.headers["ETag"] = f'"{values["etag"]}"'
        return response

    def _query(self) -> WorklistQuery:
        """Read the filters.

        Raises
        ------
        BadRequest
            If one is unknown: an ignored filter would show what was not asked for.
        """
        state, priority = request.args.get("state", "open"), request.args.get("priority", "")
        centre = request.args.get("centre", "")
        if state not in set(Show) or (priority and priority not in RANKS):
            msg = f"state is one of {', '.join(Show)}; priority one of {', '.join(RANKS)}."
            raise BadRequest(msg)
        if centre and centre not in {each.id for each in self._network.centres}:
            msg = "There is no such centre."
            raise BadRequest(msg)
        return WorklistQuery(
            centres=frozenset({centre}) if centre else viewer().centres,
            show=Show(state),
            ranks=frozenset({RANKS[priority]}) if priority else frozenset(),
            limit=_MOST_LINES,
            due_after=self._clock.now() - self._open_for if state == Show.OPEN else None,
        )

    def _centres(self) -> Mapping[str, str]:
        own = session().centres
        named = {centre.id: centre.name for centre in self._network.centres}
        return {key: name for key, name in named.items() if not own or key in own}

    def _lines(self, found: WorklistPage) -> dict[str, object]:
        site, now, centres = self._access.site, self._clock.now(), self._centres()
        base = f"/app/{session().handle}"
        lines = [
            study_line(entry, site, base=base, now=now, centres=centres) for entry in found.entries
        ]
        styles = {rank: style for style, rank in reversed(list(RANKS.items()))}
        counts = {styles[rank]: count for rank, count in found.counts.items()}
        shown = [(line.result_id, line.state, line.due, line.delivery) for line in lines]
        filters = {name: request.args.get(name, "") for name in ("centre", "priority")}
        return {
            "lines": lines,
            "counts": counts,
            "more": found.more,
            "filters": {
                **filters,
                "state": request.args.get("state", "open"),
                "open_days": self._open_for.days,
                "centres": list(centres.items()),
            },
            "etag": hashlib.sha256(orjson.dumps([shown, found.more, counts])).hexdigest()[:32],
        }

    # ── One study ────────────────────────────────────────────────────────────────────────────────

    def study(self, result_id: str) -> Response:
        """Give the page of one study; where there is no access, the way to break the glass.

        Raises
        ------
        Forbidden
            If the role does not allow even that.
        """
        looking = viewer()
        try:
            entry = self._access.result(result_id, looking)
        except Forbidden as error:
            if not error.result_id:
                raise
            action = f"/app/{session().handle}/studies/{result_id}/break-glass"
            reasons = list(EMERGENCY_REASONS.items())
            values = {**self.around(), "action": action, "reasons": reasons}
            return page("break_glass.html", values, HTTPStatus.FORBIDDEN)
        sees_audit = may(looking.role, Permission.READ_AUDIT)
        around = Around(
            base=f"/app/{session().handle}",
            prior=self._access.prior(entry, looking),
            verdicts=self._access.verdicts(result_id),
            amendments=self._access.amendments(result_id),
            events=self._access.audit_events(result_id, looking) if sees_audit else (),
            has_images=self._images.available and may(looking.role, Permission.READ_IMAGE),
            ohif_url=self._ohif_url,
        )
        shown = study_page(entry, self._access.site, around)
        return page("viewer.html", {**self.around(), "study": shown})

    def break_glass(self, result_id: str) -> Response:
        """Open one study to this session, with a reason.

        Raises
        ------
        BadRequest
            If no reason is chosen.
        """
        reason, comment = request.form.get("reason", ""), request.form.get("comment", "")
        if reason not in EMERGENCY_REASONS:
            msg = "Choose a reason."
            raise BadRequest(msg)
        self._access.break_glass(result_id, viewer(), reason, comment[:_LONGEST_COMMENT])
        return _back(result_id)

    def verdict(self, result_id: str) -> Response:
        """Keep what the reader says."""
        given = _verdict(request.form, result_id, viewer().user, self._clock)
        signed = _signed(given) if request.form.get("sign") else None
        self._access.give_verdict(given, viewer(), signed)
        return _back(result_id)

    def artefact(self, result_id: str, name: str) -> Response:
        """Give one stored artefact.

        Raises
        ------
        NotFound
            If there is none of this name.
        """
        if name not in _ARTEFACTS:
            description = "There is no such artefact."
            raise NotFound(description)
        content = self._access.artefact(result_id, name, viewer())
        response = Response(content, content_type=_ARTEFACTS[name])
        if name.endswith(".dcm"):
            response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    # ── Images ───────────────────────────────────────────────────────────────────────────────────

    def images(self, result_id: str) -> Response:
        """Open the images of a study and say which there are."""
        entry = self._access.open_images(result_id, viewer(), self._images_open_for)
        listed = self._images.of_study(entry.study_instance_uid)
        own = f"/app/{session().handle}/studies/{result_id}/images"
        number_of_series = {
            image: index
            for index, series in enumerate(listed.series)
            for image in range(series.first, series.first + series.count)
        }
        shown_uid = entry.result.shown_instance_uid if entry.result else ""
        analysed = [
            number
            for number, image in enumerate(listed.images)
            if image.sop_instance_uid == shown_uid
        ]
        first = self._images.pixels(entry.study_instance_uid, (analysed or [0])[0])
        is_ct = any(series.modality == "CT" for series in listed.series)
        body = {
            "images": [
                {
                    "url": f"{own}/{number}",
                    "rows": image.rows,
                    "columns": image.columns,
                    "series": number_of_series[number],
                    "label": image.label,
                    "spacing_mm": image.spacing_mm,
                    "analysed": image.sop_instance_uid == shown_uid,
                    **_shown(first),
                }
                for number, image in enumerate(listed.images)
            ],
            "series": [
                {"label": each.label, "first": each.first, "count": each.count}
                for each in listed.series
            ],
            "presets": [
                {"name": name, "center": center, "width": width}
                for name, center, width in (CT_WINDOWS if is_ct else ())
            ],
            "overlay": self._overlay(entry),
        }
        return Response(orjson.dumps(body), content_type="application/json")

    def pixels(self, result_id: str, number: int) -> Response:
        """Give the pixels of one image that was opened."""
        study_instance_uid = self._access.image_opened(result_id, viewer())
        found = self._images.pixels(study_instance_uid, number)
        response = Response(found.stored, content_type="application/octet-stream")
        if self._compresses and request.accept_encodings.best_match(["gzip"]):
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            response.set_data(packer.compress(found.stored) + packer.flush())
            response.headers["Content-Encoding"] = "gzip"
        response.headers["X-Radcds-Shown"] = orjson.dumps(_shown(found)).decode("ascii")
        return response

    def _overlay(self, entry: StudyEntry) -> dict[str, object] | None:
        """Give the saliency of the explained finding in 8 bits; none where no location is shown."""
        outcome = entry.result.outcome if entry.result and not entry.withheld else None
        triage_only = self._access.site.display_mode is DisplayMode.TRIAGE_ONLY
        if triage_only or not isinstance(outcome, TriageResult):
            return None
        saliency = outcome.saliency_of(explained_finding(outcome).label)
        rows, columns = saliency.grid.shape
        cells = np.rint(np.clip(saliency.grid, 0, 1) * 255).astype(np.uint8).tobytes()
        return {
            "label": codes.finding(saliency.label).display,
            "rows": rows,
            "columns": columns,
            "cells": base64.b64encode(cells).decode("ascii"),
        }


def pages(shown: StudyPages) -> Blueprint:
    """Give the routes of the pages."""
    blueprint = Blueprint("pages", __name__, url_prefix="/app/<handle>")
    study = "/studies/<uuid:result_id>"

    routes: Mapping[tuple[str, str], Callable[..., Response]] = {
        ("GET", "/worklist"): shown.worklist,
        ("GET", "/worklist/lines"): shown.lines,
        ("GET", study): shown.study,
        ("GET", f"{study}/images"): shown.images,
        ("GET", f"{study}/images/<int:number>"): shown.pixels,
        ("GET", f"{study}/artefacts/<name>"): shown.artefact,
        ("POST", f"{study}/verdict"): shown.verdict,
        ("POST", f"{study}/break-glass"): shown.break_glass,
    }
    for number, ((method, path), view) in enumerate(routes.items()):
        blueprint.add_url_rule(path, f"page_{number}", _of_session(view), methods=[method])
    return blueprint


def _of_session(view: Callable[..., Response]) -> Callable[..., Response]:
    """Give a view without the handle in its address: the door has made a session of it."""

    def called(handle: str, **values: object) -> Response:
        del handle
        return view(**{name: _plain(value) for name, value in values.items()})

    return called


def _plain(value: object) -> object:
    return value if isinstance(value, int) else str(value)


def _verdict(form: MultiDict[str, str], result_id: str, user: str, clock: Clock) -> Verdict:
    """Read the form of a verdict.

    Raises
    ------
    BadRequest
        Saying what to choose.
    """
    agreement, radpeer = form.get("agreement", ""), form.get("radpeer", "")
    reason, comment = form.get("reason", ""), form.get("comment", "").strip()
    if agreement not in set(Agreement) or radpeer not in RADPEER:
        msg = "Say whether you agree, and choose a RADPEER score."
        raise BadRequest(msg)
    if agreement == Agreement.DISAGREE and reason not in DISAGREEMENTS:
        msg = "Choose the reason for which you disagree."
        raise BadRequest(msg)
    if len(comment) > _LONGEST_COMMENT:
        msg = f"The comment is longer than {_LONGEST_COMMENT} characters."
        raise BadRequest(msg)
    return Verdict(
        result_id=result_id,
        user=user,
        at=clock.now(),
        agreement=Agreement(agreement),
        radpeer=radpeer,
        reason=reason if agreement == Agreement.DISAGREE else "",
        comment=comment,
    )


def _signed(given: Verdict) -> SignOff:
    """Make a verdict a sign-off by whoever is signed in.

    Raises
    ------
    BadRequest
        If it corrects the result without saying what is true instead.
    """
    corrects = given.agreement is Agreement.DISAGREE
    if corrects and not given.comment:
        msg = "Say in the comment what is true: it is published in place of what the AI said."
        raise BadRequest(msg)
    return SignOff(
        number=0,
        verdict=SignedVerdict.CORRECTED if corrects else SignedVerdict.CONFIRMED,
        at=given.at,
        radiologist=session().display or given.user,
        identifier=(session().fhir_base_url, given.user),
        statement=given.comment,
    )


def _shown(found: Pixels) -> dict[str, object]:
    """Say how the pixels of an image are to be shown."""
    return {
        "slope": found.slope,
        "intercept": found.intercept,
        "window": {"center": found.window[0], "width": found.window[1]},
        "invert": found.invert,
    }


def _back(result_id: str) -> Response:
    address = f"/app/{session().handle}/studies/{result_id}"
    response: Response = redirect(address, HTTPStatus.SEE_OTHER)  # type: ignore[assignment]
    return response
