"""Stored results as JSON text, without loss."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import orjson

from ai_engine.result import (
    Finding,
    ModelIdentity,
    NotAnalysed,
    Outcome,
    Priority,
    Reason,
    Saliency,
    TriageResult,
)
from cds_server.ports import StoredResult
from fhir_mappers.candidate import PassedOver
from fhir_mappers.selection import Exclusion
from fhir_mappers.study import Instance, Patient, PersonName, Plane, Series, Study


def encode(result: StoredResult) -> str:
    """Write a result as JSON."""
    study = asdict(replace(result.study, series=()))
    study["started"] = result.study.started.isoformat() if result.study.started else None
    study["series"] = [_series_as_json(each) for each in result.study.series]
    return orjson.dumps(
        {
            "result_id": result.result_id,
            "study": study,
            "outcome": _outcome_as_json(result.outcome),
            "stored_at": result.stored_at.isoformat(),
            "seconds": dict(result.seconds),
            "shown": result.shown_instance_uid,
            "shadow": result.shadow,
            "chosen": dict(result.chosen),
            "exclusions": _exclusions_as_json(result.exclusions),
            "notes": list(result.notes),
        }
    ).decode()


def decode(text: str) -> StoredResult:
    """Read a result that ``encode`` wrote, in this version or an earlier one."""
    value = orjson.loads(text)
    return StoredResult(
        result_id=value["result_id"],
        study=_study(value["study"]),
        outcome=_outcome(value["outcome"]),
        stored_at=datetime.fromisoformat(value["stored_at"]),
        seconds=value["seconds"],
        shown_instance_uid=value.get("shown", ""),
        shadow=value.get("shadow", False),
        chosen=value.get("chosen", {}),
        exclusions=tuple(_exclusions(value.get("exclusions", []))),
        notes=tuple(value.get("notes", [])),
    )


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, NotAnalysed):
        return {"not_analysed": asdict(outcome)}
    return {
        "priority": outcome.priority.value,
        "findings": [asdict(finding) for finding in outcome.findings],
        "saliency": [
            {
                "label": each.label,
                "shape": each.grid.shape,
                "float32": base64.b64encode(each.grid.astype("<f4").tobytes()).decode("ascii"),
            }
            for each in outcome.saliency
        ],
        "model": asdict(outcome.model),
        "image_index": outcome.image_index,
    }


def _outcome(value: dict[str, Any]) -> Outcome:
    if declined := value.get("not_analysed"):
        model = declined["model"]
        return NotAnalysed(
            Reason(declined["reason"]),
            declined["detail"],
            ModelIdentity(**model) if model else None,
        )
    return TriageResult(
        priority=Priority(value["priority"]),
        findings=tuple(Finding(**each) for each in value["findings"]),
        saliency=tuple(_saliency(each) for each in value["saliency"]),
        model=ModelIdentity(**value["model"]),
        image_index=value["image_index"],
    )


def _saliency(value: dict[str, Any]) -> Saliency:
    flat = np.frombuffer(base64.b64decode(value["float32"]), dtype="<f4")
    return Saliency(value["label"], flat.astype(np.float32).reshape(value["shape"]))


def _exclusions_as_json(exclusions: Sequence[Exclusion]) -> list[dict[str, Any]]:
    """Write neighbours of one reason together: a series that was passed over has many slices."""
    return [
        {"reason": reason, "detail": detail, "instances": [each.sop_instance_uid for each in those]}
        for (reason, detail), those in groupby(exclusions, lambda each: (each.reason, each.detail))
    ]


def _exclusions(value: list[dict[str, Any]]) -> Iterator[Exclusion]:
    for each in value:
        coded = PassedOver if each["reason"] in PassedOver.__members__ else Reason
        for uid in each["instances"]:
            yield Exclusion(uid, coded(each["reason"]), each["detail"])


def _study(value: dict[str, Any]) -> Study:
    patient = value["patient"]
    return Study(
        study_instance_uid=value["study_instance_uid"],
        accession_number=value["accession_number"],
        patient=Patient(**{**patient, "name": PersonName(**patient["name"])}),
        started=datetime.fromisoformat(value["started"]) if value["started"] else None,
        description=value["description"],
        referring_physician=PersonName(**value["referring_physician"]),
        series=tuple(_series(each) for each in value["series"]),
        institution=value.get("institution", ""),
    )


def _series_as_json(series: Series) -> dict[str, Any]:
    instances = [_instance_as_json(each) for each in series.instances]
    return {**asdict(replace(series, instances=())), "instances": instances}


def _instance_as_json(instance: Instance) -> dict[str, Any]:
    """Write what is not the default: a study may have thousands of slices."""
    written = {
        each.name: getattr(instance, each.name)
        for each in fields(instance)
        if getattr(instance, each.name) != each.default
    }
    return {**written, "plane": asdict(instance.plane)} if instance.plane else written


def _series(value: dict[str, Any]) -> Series:
    return Series(**{**value, "instances": tuple(_instance(each) for each in value["instances"])})


def _instance(value: dict[str, Any]) -> Instance:
    """Read an instance; what an earlier version did not write has its default."""
    plane = value.get("plane")
    return Instance(**{**_tuples(value), "plane": Plane(**_tuples(plane)) if plane else None})


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(each) if isinstance(each, list) else each for name, each in value.items()}
