"""Invented people and their records, as FHIR R4 resources."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Resource = dict[str, Any]

DEMO_SYSTEM = "https://test-hospital.example/patient-id"
_DICOM_UID = "urn:dicom:uid"
_LOINC = "http://loinc.org"
_RADIOLOGY = {
    "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
    "code": "RAD",
    "display": "Radiology",
}
_CHEST = {"system": _LOINC, "code": "36643-5", "display": "XR Chest 2 Views"}
_PEOPLE = (
    ("TEST", "Alder", "1958-03-14"),
    ("TEST", "Birch", "1971-11-02"),
    ("TEST", "Cedar", "1990-07-25"),
)


@dataclass(frozen=True)
class Record:
    """Resources that belong together, such as all of one patient.

    Parameters
    ----------
    resources
        FHIR R4 JSON.
    """

    resources: list[Resource] = field(default_factory=list)

    def of_type(self, resource_type: str) -> list[Resource]:
        """Give the resources of one type."""
        return [each for each in self.resources if each["resourceType"] == resource_type]

    def find(self, resource_type: str, resource_id: str) -> Resource | None:
        """Find one resource."""
        of_type = self.of_type(resource_type)
        return next((each for each in of_type if each["id"] == resource_id), None)


def patient(
    resource_id: str,
    *,
    family: str,
    given: str,
    birth_date: str,
    identifiers: Iterable[tuple[str, str]],
) -> Resource:
    """Make a Patient.

    Parameters
    ----------
    resource_id
        Its FHIR id.
    family, given
        The name; use one that nobody has.
    birth_date
        ``YYYY-MM-DD``.
    identifiers
        Pairs of system and value.
    """
    return {
        "resourceType": "Patient",
        "id": resource_id,
        "identifier": [{"system": system, "value": value} for system, value in identifiers],
        "name": [{"family": family, "given": [given]}],
        "birthDate": birth_date,
    }


def practitioner(resource_id: str, *, family: str, given: str) -> Resource:
    """Make a Practitioner."""
    return {
        "resourceType": "Practitioner",
        "id": resource_id,
        "name": [{"family": family, "given": [given]}],
    }


def encounter(resource_id: str, *, patient_id: str, start: str) -> Resource:
    """Make an Encounter that goes on."""
    return {
        "resourceType": "Encounter",
        "id": resource_id,
        "status": "in-progress",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "AMB",
            "display": "ambulatory",
        },
        "subject": {"reference": f"Patient/{patient_id}"},
        "period": {"start": start},
    }


def service_request(
    resource_id: str, *, patient_id: str, authored: str, accession: str, priority: str = "routine"
) -> Resource:
    """Make the ServiceRequest of a chest radiograph."""
    return {
        "resourceType": "ServiceRequest",
        "id": resource_id,
        "identifier": [_accession(accession)],
        "status": "active",
        "intent": "order",
        "priority": priority,
        "code": {"coding": [_CHEST]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "authoredOn": authored,
    }


def task(resource_id: str, *, patient_id: str, focus: str, authored: str) -> Resource:
    """Make the Task of reading what a ServiceRequest asked for."""
    return {
        "resourceType": "Task",
        "id": resource_id,
        "status": "requested",
        "intent": "order",
        "priority": "routine",
        "focus": {"reference": focus},
        "for": {"reference": f"Patient/{patient_id}"},
        "authoredOn": authored,
    }


def imaging_study(
    resource_id: str, *, patient_id: str, study_instance_uid: str, started: str, accession: str = ""
) -> Resource:
    """Make the ImagingStudy of a chest radiograph."""
    identifiers: list[Resource] = [
        {"system": _DICOM_UID, "value": f"urn:oid:{study_instance_uid}"},
        *([_accession(accession)] if accession else []),
    ]
    return {
        "resourceType": "ImagingStudy",
        "id": resource_id,
        "identifier": identifiers,
        "status": "available",
        "subject": {"reference": f"Patient/{patient_id}"},
        "started": started,
        "description": "Chest radiograph",
    }


def diagnostic_report(
    resource_id: str, *, patient_id: str, effective: str, conclusion: str
) -> Resource:
    """Make a final DiagnosticReport of radiology."""
    return {
        "resourceType": "DiagnosticReport",
        "id": resource_id,
        "status": "final",
        "category": [{"coding": [_RADIOLOGY]}],
        "code": {"coding": [_CHEST]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "effectiveDateTime": effective,
        "conclusion": conclusion,
    }


def demo_records(identifiers: Sequence[tuple[str, str]] = ()) -> list[Resource]:
    """Give a small clinic of people who do not exist.

    Parameters
    ----------
    identifiers
        Pairs of system and value, one for each patient in turn: whose images the app knows. Where
        there are more than the clinic has patients, patients are added.
    """
    records = [
        practitioner("radiologist-1", family="TEST-RADIOLOGIST", given="One"),
        practitioner("clinician-1", family="TEST-CLINICIAN", given="One"),
    ]
    for number in range(max(len(_PEOPLE), len(identifiers))):
        records += _demo_patient(number, identifiers).resources
    return records


def _demo_patient(number: int, identifiers: Sequence[tuple[str, str]]) -> Record:
    family, given, born = _PEOPLE[number % len(_PEOPLE)]
    own = (DEMO_SYSTEM, f"TEST-{number + 1:04}")
    known = [own, *identifiers[number : number + 1]]
    name = given if number < len(_PEOPLE) else f"{given}-{number + 1}"
    ident, day = f"test-{number + 1}", f"2026-02-{number % 28 + 1:02}"
    order, accession = f"order-{ident}", f"A{number + 1:04}"
    return Record(
        [
            patient(ident, family=family, given=name, birth_date=born, identifiers=known),
            encounter(f"encounter-{ident}", patient_id=ident, start=f"{day}T08:00:00Z"),
            service_request(
                order, patient_id=ident, authored=f"{day}T08:10:00Z", accession=accession
            ),
            task(
                f"task-{ident}",
                patient_id=ident,
                focus=f"ServiceRequest/{order}",
                authored=f"{day}T08:15:00Z",
            ),
            diagnostic_report(
                f"report-{ident}",
                patient_id=ident,
                effective="2025-06-01T10:00:00Z",
                conclusion="Invented for the demonstration.",
            ),
        ]
    )


def _accession(value: str) -> Resource:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
    return {"type": {"coding": [coding]}, "value": value}
