"""The result as an HL7 v2.5.1 ORU^R01 message, shaped after IHE RAD-128 Results Distribution.

========  ==================================================================================
field     content
========  ==================================================================================
MSH-10    20 characters of the result id: the same result has the same control id
PID-3     Patient ID with its issuer; where none is known one of this result alone, type ``U``
PID-5     name; ``^^^^^^U``, unspecified, where none is known
OBR-3     accession number, else the control id as this server's own filler number
OBR-4     a chest radiograph only where the engine saw one
OBR-18    accession number
OBR-25    ``P`` with a result; ``I``, no result available, where not analysed
TQ1-9     priority that a RIS can sort on; absent where not analysed
OBX 1     study UID, coded 113014 DCM
OBX 2     triage result; OBX-8 ``N``, ``A``, ``AA``, OBX-11 ``P``; where not analysed OBX-11 ``X``
OBX 3…    one a finding: OBX-7 threshold, OBX-8, OBX-9 probability
NTE       disclaimer and model, before the first OBX: of the whole report
OBX       impression as FT, one line each; overlay as ED (JPEG)
========  ==================================================================================

References
----------
HL7 v2.5.1 ch. 7.3.1 ORU^R01; ch. 7 OBX, OBR; tables 0078, 0085, 0123, 0485.
"""

import base64
from dataclasses import dataclass, field

from ai_engine.result import Finding, NotAnalysed, Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.er7 import (
    COMPONENT,
    Segment,
    authority,
    coded,
    components,
    encapsulated,
    escaped,
    formatted_text,
    message,
    timestamp,
)
from fhir_mappers.report_context import DisplayMode, ReportContext
from fhir_mappers.study import PersonName, Study
from fhir_mappers.wording import DISCLAIMER, figures, impression, model_line

OVERLAY_JPEG_BYTES = 70_000
"""A JPEG of this size stays below the 99,999 characters of OBX-5 in Base64."""
_LOCAL = "99RADCDS"
_SEX = {"M": "M", "F": "F", "O": "O"}


def oru_r01(
    study: Study, outcome: Outcome, *, context: ReportContext, overlay_jpeg: bytes | None
) -> bytes:
    """Give the message of one study.

    Parameters
    ----------
    study
        As the archive described it.
    outcome
        What the engine said.
    context
        Identifiers and times; the same context gives the same bytes.
    overlay_jpeg
        Sent as ED unless the site is ``triage_only``.

    Raises
    ------
    InvalidMessage
        If the overlay does not fit into OBX-5.
    """
    shown = overlay_jpeg if context.site.display_mode is DisplayMode.OVERLAY else None
    return message(
        [
            _msh(context),
            Segment("SFT", _software(context)),
            _pid(study, context),
            Segment("PV1", {1: "1", 2: "U"}),
            _orc(study, context),
            _obr(study, outcome, context),
            Segment("NTE", {1: "1", 2: "L", 3: escaped(f"{DISCLAIMER} {model_line(context)}.")}),
            *_tq1(outcome),
            *_Observations(study, outcome, context).segments(shown),
        ]
    )


def control_id(result_id: str) -> str:
    """Give MSH-10: the first 20 hexadecimal digits of the result id (2.5.1 allows 20)."""
    return result_id.replace("-", "")[:20].upper()


def _msh(context: ReportContext) -> Segment:
    site = context.site
    return Segment(
        "MSH",
        {
            3: escaped(site.hl7_application),
            4: escaped(site.hl7_facility),
            5: escaped(site.hl7_receiver[0]),
            6: escaped(site.hl7_receiver[1]),
            7: timestamp(context.issued),
            9: "ORU^R01^ORU_R01",
            10: control_id(context.result_id),
            11: "P",
            12: "2.5.1",
            15: "AL",
            16: "AL",
            18: "UNICODE UTF-8",
        },
    )


def _software(context: ReportContext) -> dict[int, str]:
    return {
        1: "radcds",
        2: escaped(context.software_version),
        3: "radcds",
        4: escaped(f"{context.model.name}-{context.model.version}-{context.model.sha256[:16]}"),
    }


def _pid(study: Study, context: ReportContext) -> Segment:
    patient = study.patient
    issuer = patient.issuer or context.site.accession_issuer
    identifier = [escaped(patient.patient_id), "", "", authority(issuer), "MR"]
    if not patient.patient_id:
        identifier = [control_id(context.result_id), "", "", "RADCDS", "U"]
    born = (patient.birth_date or "").replace("-", "")
    return Segment(
        "PID",
        {
            1: "1",
            3: COMPONENT.join(identifier),
            5: _person(patient.name),
            7: born,
            8: _SEX.get(patient.sex, ""),
        },
    )


def _person(name: PersonName) -> str:
    known = components(name.family, name.given, name.middle, name.suffix, name.prefix)
    return known or components("", "", "", "", "", "", "U")


def _filler(study: Study, context: ReportContext) -> str:
    own = components(control_id(context.result_id), "RADCDS")
    return escaped(study.accession_number) or own


def _orc(study: Study, context: ReportContext) -> Segment:
    return Segment("ORC", {1: "RE", 3: _filler(study, context), 5: "CM"})


def _obr(study: Study, outcome: Outcome, context: ReportContext) -> Segment:
    return Segment(
        "OBR",
        {
            1: "1",
            3: _filler(study, context),
            4: coded(*codes.procedure(study, outcome), "LN"),
            7: timestamp(study.started),
            18: escaped(study.accession_number),
            22: timestamp(context.issued),
            24: "RAD",
            25: "I" if isinstance(outcome, NotAnalysed) else "P",
        },
    )


def _tq1(outcome: Outcome) -> list[Segment]:
    priority = codes.triage(outcome).hl7_priority
    if not priority:
        return []
    display = {"S": "Stat", "A": "ASAP", "R": "Routine"}[priority]
    return [Segment("TQ1", {1: "1", 9: coded(priority, display, "HL70485")})]


@dataclass
class _Observations:
    """The OBX segments of one message, numbered as they are added."""

    study: Study
    outcome: Outcome
    context: ReportContext
    added: list[Segment] = field(default_factory=list)

    def segments(self, overlay_jpeg: bytes | None) -> list[Segment]:
        """Give every OBX in order."""
        self._add("ST", coded("113014", "DICOM Study", "DCM"), self._study_uid(), {11: "O"})
        triage = codes.triage(self.outcome)
        named = coded("RADCDS-TRIAGE", "AI triage result", _LOCAL)
        if isinstance(self.outcome, NotAnalysed):
            reason = coded(self.outcome.reason.value, self.outcome.detail, _LOCAL)
            self._add("CWE", named, reason, {11: "X", **self._provenance()})
        else:
            value = coded(triage.code, triage.display, _LOCAL)
            self._add("CWE", named, value, self._judged(triage.hl7_flag))
            for number, each in enumerate(self.outcome.findings, start=1):
                self._add_finding(number, each, triage.hl7_flag)
        for number, line in enumerate(impression(self.outcome, self.context), start=1):
            fields = {4: str(number), 11: self._status()}
            self._add("FT", coded(*codes.IMPRESSION, "LN"), formatted_text([line]), fields)
        if overlay_jpeg is not None and isinstance(self.outcome, TriageResult):
            data = base64.b64encode(overlay_jpeg).decode("ascii")
            image = encapsulated("RADCDS", "IM", "JPEG", data)
            self._add(
                "ED", coded(*codes.IMAGING_STUDY_REPORT, "LN"), image, {4: "SALIENCY", 11: "P"}
            )
        return self.added

    def _add_finding(self, number: int, each: Finding, flag: str) -> None:
        code = codes.finding(each.label)
        value = (
            coded(code.snomed, code.snomed_display or code.display, "SCT")
            if code.snomed
            else coded(each.label, code.display, _LOCAL)
        )
        fields = self._judged(flag if each.positive else "N")
        probability, threshold = figures(each, places=3)
        fields |= {4: str(number), 7: f"<{threshold}", 9: probability}
        self._add("CWE", coded(*codes.PROCEDURE_FINDINGS, "LN"), value, fields)

    def _judged(self, flag: str) -> dict[int, str]:
        return {8: flag, 11: "P", **self._provenance()}

    def _provenance(self) -> dict[int, str]:
        """Give OBX-14 study time, OBX-17 method, OBX-18 equipment, OBX-19 time of analysis."""
        model = self.context.model
        return {
            14: timestamp(self.study.started),
            17: coded(model.name, model.version, _LOCAL),
            18: components(model.sha256[:16], "RADCDS"),
            19: timestamp(self.context.issued),
        }

    def _status(self) -> str:
        return "X" if isinstance(self.outcome, NotAnalysed) else "P"

    def _study_uid(self) -> str:
        return escaped(self.study.study_instance_uid)

    def _add(self, kind: str, identifier: str, value: str, fields: dict[int, str]) -> None:
        number = str(len(self.added) + 1)
        self.added.append(Segment("OBX", {1: number, 2: kind, 3: identifier, 5: value, **fields}))
