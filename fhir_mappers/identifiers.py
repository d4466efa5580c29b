"""Identifiers that are the same every time the same result is published.

At-least-once delivery is only safe when a repeat carries the identifiers of the first attempt, so
all of them are derived: from the study, the model and, for DICOM objects, the content.
"""

import hashlib
import uuid

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:radcds:result")


def result_id(study_instance_uid: str, model_sha256: str, revision: int = 1) -> str:
    """Identify the result of one study under one model version: an opaque UUIDv5.

    Parameters
    ----------
    study_instance_uid, model_sha256
        Which study, and which model.
    revision
        1, and one more each time the study is read again because images came late.
    """
    again = f"|{revision}" if revision > 1 else ""
    return str(uuid.uuid5(_NAMESPACE, f"{study_instance_uid}|{model_sha256}{again}"))


def resource_id(result_id: str, resource_type: str, part: str = "") -> str:
    """Identify one FHIR resource of a result: a UUIDv5, a valid FHIR ``id``.

    References
    ----------
    FHIR R4 datatypes ``id``.
    """
    return str(uuid.uuid5(uuid.UUID(result_id), f"{resource_type}|{part}"))


def instance_uid(result_id: str, part: str, content: bytes = b"") -> str:
    """Identify one DICOM object of a result; changed content gets a new UID.

    References
    ----------
    DICOM PS3.5 B.2 UUID derived UID.
    """
    digest = hashlib.sha256(content).hexdigest()
    return f"2.25.{uuid.uuid5(uuid.UUID(result_id), f'{part}|{digest}').int}"


def device_uid(model_sha256: str) -> str:
    """Identify a model version as a device; another training is another device.

    References
    ----------
    DICOM PS3.3 C.12.1.1 Device UID (0018,1002); IHE RAD AI Results 6.5.3.1.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'device|{model_sha256}').int}"
