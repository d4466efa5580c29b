"""How the resources of one result refer to each other, and to patient and order."""

from dataclasses import dataclass
from datetime import datetime

from fhir_mappers import codes
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.identifiers import resource_id
from fhir_mappers.report_context import ReportContext, Site
from fhir_mappers.study import Study

AI_LABEL = {
    "system": codes.OBSERVATION_VALUE,
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
AI_ASSERTED = {"security": [AI_LABEL]}
"""``meta`` of everything that the AI asserts (HL7 AI Transparency on FHIR)."""


@dataclass(frozen=True, slots=True)
class References:
    """Identifiers and references of one result."""

    study: Study
    context: ReportContext

    def id_of(self, resource_type: str, part: str = "") -> str:
        """Give the id of one of our own resources."""
        return resource_id(self.context.result_id, resource_type, part)

    def to(self, resource_type: str, part: str = "") -> dict[str, str]:
        """Refer to one of our own resources."""
        return {"reference": f"{resource_type}/{self.id_of(resource_type, part)}"}

    @property
    def subject(self) -> dict[str, object]:
        """Refer to the patient by identifier; say so where the archive names none."""
        patient = self.study.patient
        if not patient.patient_id:
            return {"type": "Patient", "display": "Patient not identified in the archive"}
        system = identifier_system(patient.issuer, self.context.site)
        identifier = {"system": system, "value": patient.patient_id}
        return {"type": "Patient", "identifier": identifier}

    @property
    def organisation(self) -> dict[str, object]:
        """Refer to who runs this server, by name."""
        return organisation(self.context.site)

    @property
    def radiologist(self) -> list[dict[str, object]]:
        """Refer to the radiologist who signed, by identifier and name; nothing where nobody did."""
        signed = self.context.signed
        if signed is None:
            return []
        issuer, value = signed.identifier
        system = identifier_system(issuer, self.context.site) if issuer.strip() else ""
        identifier = {"system": system, "value": value}
        return [{"type": "Practitioner", "identifier": identifier, "display": signed.radiologist}]

    @property
    def order(self) -> list[dict[str, object]]:
        """Refer to the order by accession number, if there is one."""
        if not self.study.accession_number:
            return []
        coding = [{"system": f"{codes.HL7_BASE}/v2-0203", "code": "ACSN"}]
        identifier = {
            "type": {"coding": coding},
            "system": identifier_system("", self.context.site),
            "value": self.study.accession_number,
        }
        return [{"type": "ServiceRequest", "identifier": identifier}]

    @property
    def started(self) -> str:
        """Give the time of the study, or nothing where the archive has none."""
        return self.study.started.isoformat() if self.study.started else ""

    @property
    def issued(self) -> str:
        """Give the time of the result."""
        return instant(self.context.issued)

    @property
    def released(self) -> str:
        """Give the time of this version: of the sign-off, else of the result."""
        signed = self.context.signed
        return instant(signed.at) if signed else self.issued


def instant(when: datetime) -> str:
    """Give a time as a FHIR ``instant``; it has an offset."""
    return when.isoformat(timespec="milliseconds")


def organisation(site: Site) -> dict[str, object]:
    """Refer to who runs a server, by name."""
    return {"type": "Organization", "display": site.name}
