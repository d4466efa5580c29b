"""The OBX segments of an ORU^R01, numbered as they are added."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
    timestamp,
)
from fhir_mappers.hl7_dialect import Hl7Dialect
from fhir_mappers.oru_standing import Standing
from fhir_mappers.report_context import ReportContext, SignOff, Verdict
from fhir_mappers.study import Study
from fhir_mappers.wording import figures, impression

LOCAL = codes.LOCAL_SCHEME
ASSIGNER = "RADCDS"
STUDY_UID = ("113014", "DICOM Study", "DCM")
TRIAGE = ("RADCDS-TRIAGE", "AI triage result", LOCAL)
ACR_CATEGORY = ("RADCDS-ACR", "ACR actionable finding category", LOCAL)
AI_IMPRESSION = ("RADCDS-AI", "Impression of the AI, not of the radiologist", LOCAL)
RECALL = ("RADCDS-RECALL", "Recall of an AI result", LOCAL)
AI_MARK = "AI OUTPUT - NOT WRITTEN BY A RADIOLOGIST"
SALIENCY, VIEWER = "SALIENCY", "VIEWER"
_LONGEST_EQUIPMENT = 15


def entity(digits: str) -> str:
    """Give an EI of this server within 22 characters, all that versions 2.3.1 to 2.5.1 allow."""
    return components(digits[:_LONGEST_EQUIPMENT], ASSIGNER)


@dataclass
class Observations:
    """The OBX segments of one message.

    Parameters
    ----------
    study, outcome, context
        The result.
    dialect
        How the destination wants it.
    standing
        How the result stands.
    """

    study: Study
    outcome: Outcome
    context: ReportContext
    dialect: Hl7Dialect
    standing: Standing
    added: list[Segment] = field(default_factory=list)

    def segments(self, overlay_jpeg: bytes | None, *, with_picture: bool) -> list[Segment]:
        """Give every OBX in order.

        Parameters
        ----------
        overlay_jpeg
            Of a size that fits, or ``None``.
        with_picture
            Whether the first message of this result could have had a picture, which a recall
            withdraws too.
        """
        self._add("ST", STUDY_UID, escaped(self.study.study_instance_uid), {11: "O"})
        self._add_triage()
        if isinstance(self.outcome, TriageResult):
            flag = codes.triage(self.outcome).hl7_flag
            for number, each in enumerate(self.outcome.findings, start=1):
                self._add_finding(number, each, flag)
        self._add_words()
        self._add_picture(overlay_jpeg, with_picture=with_picture)
        if self.dialect.link:
            url = f"{self.context.site.base_url}/studies/{self.context.result_id}"
            pointer = components(url, ASSIGNER, "AP", "HTML")
            study = (*codes.IMAGING_STUDY_REPORT, "LN")
            self._add("RP", study, pointer, {4: VIEWER, 11: self.standing.ai})
        return self.added

    def _add_triage(self) -> None:
        triage = codes.triage(self.outcome)
        kind = self.dialect.coded_type
        if isinstance(self.outcome, NotAnalysed):
            reason = coded(self.outcome.reason.value, self.outcome.detail, LOCAL)
            self._add(kind, TRIAGE, reason, self._said("", {}))
            return
        value = coded(triage.code, triage.display, LOCAL)
        self._add(kind, TRIAGE, value, self._said(triage.hl7_flag, {}))
        if triage.acr:
            self._add(kind, ACR_CATEGORY, coded(*triage.acr, "RADLEX"), self._said("", {}))

    def _add_finding(self, number: int, each: Finding, flag: str) -> None:
        code = codes.finding(each.label)
        value = (
            coded(code.snomed, code.snomed_display or code.display, "SCT")
            if code.snomed
            else coded(each.label, code.display, LOCAL)
        )
        probability, threshold = figures(each, places=3)
        figured = {4: str(number), 7: f"<{threshold}", 9: probability}
        said = self._said(flag if each.positive else "N", figured)
        self._add(self.dialect.coded_type, (*codes.PROCEDURE_FINDINGS, "LN"), value, said)

    def _add_words(self) -> None:
        standing = self.standing
        spoken = (*codes.IMPRESSION, "LN")
        if standing.recall:
            notice = ["AI RESULT WITHDRAWN - DO NOT USE", standing.recall.reason]
            self._add_lines(RECALL, notice, {11: "C"})
        if standing.signed:
            responsible = {11: standing.signer_status, 16: responsible_observer(standing.signed)}
            self._add_lines(spoken, list(_signed_words(standing.signed)), responsible)
            self._add_lines(AI_IMPRESSION, self._ai_words(), self._answered({11: standing.ai}))
        else:
            self._add_lines(spoken, impression(self.outcome, self.context), {11: standing.ai})

    def _ai_words(self) -> list[str]:
        """Give the AI's impression in a signed report, which is preliminary no more."""
        lines = impression(self.outcome, replace(self.context, signed=None))
        return [AI_MARK, *lines[1:]] if isinstance(self.outcome, TriageResult) else lines

    def _add_lines(
        self, identifier: tuple[str, str, str], lines: Sequence[str], fields: dict[int, str]
    ) -> None:
        for number, line in enumerate(lines, start=1):
            self._add("FT", identifier, formatted_text([line]), {4: str(number), **fields})

    def _add_picture(self, overlay_jpeg: bytes | None, *, with_picture: bool) -> None:
        report = (*codes.IMAGING_STUDY_REPORT, "LN")
        fields = {4: SALIENCY, 11: self.standing.ai}
        if self.standing.recall and with_picture:
            self._add("ED", report, "", fields)
        elif overlay_jpeg is not None:
            data = base64.b64encode(overlay_jpeg).decode("ascii")
            longest = self.dialect.longest_obx_5
            image = encapsulated(ASSIGNER, "IM", "JPEG", data, longest=longest)
            self._add("ED", report, image, fields)

    def _said(self, flag: str, fields: dict[int, str]) -> dict[int, str]:
        """Give the fields of what the AI said: flag, status, times and who measured.

        OBX-14 is the study's time, OBX-17 the model, OBX-18 its digest, OBX-19 the analysis.
        """
        model = self.context.model
        newer = {18: entity(model.sha256), 19: timestamp(self.context.issued)}
        return self._answered(
            {
                **fields,
                8: "" if self.standing.recall else flag,
                11: self.standing.ai,
                14: timestamp(self.study.started),
                17: coded(model.name, model.version, LOCAL),
                **(newer if self.dialect.since_2_4 else {}),
            }
        )

    def _answered(self, fields: dict[int, str]) -> dict[int, str]:
        who = self.standing.answers_for_ai
        return {**fields, 16: responsible_observer(who)} if who else fields

    def _add(
        self, kind: str, identifier: tuple[str, str, str], value: str, fields: dict[int, str]
    ) -> None:
        number = str(len(self.added) + 1)
        sub_id = "" if self.dialect.since_2_4 else "1"  # 2.3.1 requires it
        start = {1: number, 2: kind, 3: coded(*identifier), 4: sub_id, 5: value}
        self.added.append(Segment("OBX", {**start, **fields}))


def _signed_words(signed: SignOff) -> Iterator[str]:
    """Give the radiologist's words, a line each, then the verdict with a name."""
    yield from (line.strip() for line in signed.statement.splitlines() if line.strip())
    word = {Verdict.CONFIRMED: "confirmed", Verdict.CORRECTED: "corrected"}[signed.verdict]
    yield f"AI result {word} by {signed.radiologist}"


def responsible_observer(signed: SignOff) -> str:
    """Give the radiologist as XCN: number, name, whose number it is."""
    namespace, value = signed.identifier
    parts = [escaped(value), escaped(signed.radiologist), *[""] * 6]
    return COMPONENT.join([*parts, authority(namespace) if namespace else ""]).rstrip(COMPONENT)
