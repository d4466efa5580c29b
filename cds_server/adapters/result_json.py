"""Stored results as JSON text, without loss."""

import base64
from dataclasses import asdict
from datetime import datetime
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
from fhir_mappers.study import Instance, Patient, PersonName, Series, Study


def encode(result: StoredResult) -> str:
    """Write a result as JSON."""
    study = asdict(result.study)
    study["started"] = result.study.started.isoformat() if result.study.started else None
    return orjson.dumps(
        {
            "result_id": result.result_id,
            "study": study,
            "outcome": _outcome_as_json(result.outcome),
            "stored_at": result.stored_at.isoformat(),
            "seconds": dict(result.seconds),
            "shown": result.shown_instance_uid,
            "shadow": result.shadow,
        }
    ).decode()


def decode(text: str) -> StoredResult:
    """Read a result that ``encode`` wrote."""
    value = orjson.loads(text)
    return StoredResult(
        result_id=value["result_id"],
        study=_study(value["study"]),
        outcome=_outcome(value["outcome"]),
        stored_at=datetime.fromisoformat(value["stored_at"]),
        seconds=value["seconds"],
        shown_instance_uid=value.get("shown", ""),
        shadow=value.get("shadow", False),
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


def _series(value: dict[str, Any]) -> Series:
    instances = tuple(
        Instance(**{**each, "image_type": tuple(each["image_type"])}) for each in value["instances"]
    )
    return Series(**{**value, "instances": instances})
