"""The result as an HL7 v2 ORU^R01 message, shaped after IHE RAD-128 Results Distribution.

========  ==================================================================================
field     content
========  ==================================================================================
MSH-10    20 characters of the result id: the same result has the same control id; another one
          once it is signed, withdrawn or said of another patient
PID-3     Patient ID with its issuer; where none is known one of this result alone, type ``U``
PID-5     name; ``^^^^^^U``, unspecified, where none is known
OBR-3     accession number, else this server's own filler number
OBR-4     a chest radiograph only where the engine saw one
OBR-18    accession number
OBR-25    as ``oru_standing`` says
OBR-32    the radiologist who signed
TQ1-9     priority that a RIS can sort on, or OBR-27.6 or OBR-5; absent where not analysed, and
          once the study was read
OBX 1     study UID, coded 113014 DCM
OBX 2     triage result; OBX-8 ``N``, ``A``, ``AA``
OBX       ACR category of an actionable result
OBX       one a finding: OBX-7 threshold, OBX-8, OBX-9 probability
OBX       impression as FT, one line each, the radiologist's first; overlay as ED (JPEG); link as RP
NTE       disclaimer and model, before the first OBX: of the whole report
========  ==================================================================================

References
----------
HL7 v2.3.1, v2.4, v2.5.1 ch. 7 ORU^R01, OBX, OBR; tables 0078, 0085, 0123, 0485.
"""

from collections.abc import Iterator, Sequence

from ai_engine.result import Outcome, TriageResult
from fhir_mappers import codes
from fhir_mappers.er7 import (
    COMPONENT,
    Segment,
    authority,
    coded,
    components,
    escaped,
    message,
    subcomponents,
    timestamp,
)
from fhir_mappers.hl7_characters import in_character_set
from fhir_mappers.hl7_dialect import (
    LARGEST_OVERLAY_BYTES,
    AcknowledgementMode,
    Hl7Dialect,
    PriorityField,
)
from fhir_mappers.hl7_overlay import fitted_overlay
from fhir_mappers.oru_observations import ASSIGNER, Observations, entity
from fhir_mappers.oru_standing import Standing, control_id, standing_of
from fhir_mappers.report_context import DisplayMode, Recall, ReportContext, SignOff
from fhir_mappers.study import PersonName, Study
from fhir_mappers.wording import DISCLAIMER, model_line

__all__ = ["OVERLAY_JPEG_BYTES", "Recall", "control_id", "oru_r01", "recalled_oru"]

OVERLAY_JPEG_BYTES = LARGEST_OVERLAY_BYTES
"""Largest overlay that fits into OBX-5 of version 2.5.1."""
_SEX = {"M": "M", "F": "F", "O": "O"}
_PRIORITIES = {"S": "Stat", "A": "ASAP", "R": "Routine"}
_LONGEST_RELEASE, _LONGEST_BINARY_ID = 15, 20
"""SFT-2 and SFT-4 of version 2.5.1."""


def oru_r01(
    study: Study,
    outcome: Outcome,
    *,
    context: ReportContext,
    overlay_jpeg: bytes | None,
    dialect: Hl7Dialect | None = None,
    again: str = "",
) -> bytes:
    """Give the message of one study; of a result that was signed, with the radiologist's word.

    Parameters
    ----------
    study
        As the archive described it.
    outcome
        What the engine said.
    context
        Identifiers and times; the same context gives the same bytes.
    overlay_jpeg
        Sent as ED unless the site is ``triage_only``; smaller where the destination wants that.
    dialect
        How the destination wants it; ``None`` as the site says.
    again
        Why the same result is sent with another content, such as the control id of the message
        that changed the patient: gives another MSH-10, or a receiver would drop it as a repeat.

    Raises
    ------
    InvalidMessage
        If the overlay does not fit into OBX-5, or the character set lacks an identifier.
    """
    standing = standing_of(outcome, context, None)
    made = _Message(study, outcome, context, dialect or Hl7Dialect.of(context.site), standing)
    return made.encoded(overlay_jpeg, again)


def recalled_oru(
    study: Study,
    outcome: Outcome,
    *,
    context: ReportContext,
    recall: Recall,
    dialect: Hl7Dialect | None = None,
) -> bytes:
    """Give the message that withdraws a result whose model version was recalled.

    Each observation of the AI comes again with OBX-11 ``W`` and without its flag, the picture
    without its content; the reason stands in the first NTE and before the impression.

    Parameters
    ----------
    study, outcome, context, dialect
        As of the message that is withdrawn.
    recall
        Why, and when.

    Raises
    ------
    InvalidMessage
        If the character set lacks an identifier.
    """
    standing = standing_of(outcome, context, recall)
    made = _Message(study, outcome, context, dialect or Hl7Dialect.of(context.site), standing)
    return made.encoded(None, "")


class _Message:
    """One message while it is made."""

    def __init__(
        self,
        study: Study,
        outcome: Outcome,
        context: ReportContext,
        dialect: Hl7Dialect,
        standing: Standing,
    ) -> None:
        self._study = study
        self._outcome = outcome
        self._context = context
        self._dialect = dialect
        self._standing = standing

    def encoded(self, overlay_jpeg: bytes | None, again: str) -> bytes:
        """Give the message.

        Raises
        ------
        InvalidMessage
            As ``oru_r01`` says.
        """
        shown = overlay_jpeg if self._with_picture else None
        picture = (
            fitted_overlay(shown, max_bytes=self._dialect.overlay_bytes)
            if shown is not None
            else None
        )
        notes = self._notes(left_out=shown is not None and picture is None)
        codec = self._dialect.character_set.codec
        segments, changed = in_character_set(self._segments(picture, again, notes), codec)
        if changed:
            lacking = (
                f"Characters that {self._dialect.character_set} lacks were replaced in "
                f"{', '.join(changed)}."
            )
            segments = self._segments(picture, again, [*notes, lacking])
            segments, _ = in_character_set(segments, codec)
        return message(segments, codec=codec)

    @property
    def _with_picture(self) -> bool:
        return (
            self._context.site.display_mode is DisplayMode.OVERLAY
            and isinstance(self._outcome, TriageResult)
            and self._dialect.overlay_bytes > 0
        )

    def _segments(self, picture: bytes | None, again: str, notes: Sequence[str]) -> list[Segment]:
        observations = Observations(
            self._study, self._outcome, self._context, self._dialect, self._standing
        )
        return [
            self._msh(again),
            *([Segment("SFT", self._software())] if self._dialect.since_2_5 else []),
            self._pid(),
            Segment("PV1", {1: "1", 2: "U"}),
            Segment("ORC", {1: "RE", 3: self._filler(), 5: "CM"}),
            self._obr(),
            *(
                Segment("NTE", {1: str(number), 2: "L", 3: escaped(text)})
                for number, text in enumerate(notes, start=1)
            ),
            *self._tq1(),
            *observations.segments(picture, with_picture=self._with_picture),
        ]

    def _msh(self, again: str) -> Segment:
        dialect = self._dialect
        part = "|".join(each for each in (self._standing.part, again) if each)
        asked = "AL" if dialect.acknowledgement is AcknowledgementMode.ENHANCED else ""
        return Segment(
            "MSH",
            {
                3: escaped(dialect.sender[0]),
                4: escaped(dialect.sender[1]),
                5: escaped(dialect.receiver[0]),
                6: escaped(dialect.receiver[1]),
                7: timestamp(self._standing.at),
                9: "ORU^R01^ORU_R01",
                10: control_id(self._context.result_id, part),
                11: "P",
                12: dialect.version.value,
                15: asked,
                16: asked,
                18: dialect.character_set.value,
            },
        )

    def _software(self) -> dict[int, str]:
        return {
            1: "radcds",
            2: escaped(self._context.software_version[:_LONGEST_RELEASE]),
            3: "radcds",
            4: escaped(self._context.model.sha256[:_LONGEST_BINARY_ID]),
            5: escaped(model_line(self._context)),
        }

    def _notes(self, *, left_out: bool) -> list[str]:
        standing = self._standing
        said = f"{DISCLAIMER} {model_line(self._context)}."
        if standing.signed:
            said = f"Signed by a radiologist. What the AI said is marked so: {said}"
        notes = [said]
        if standing.recall:
            notes = [f"AI RESULT WITHDRAWN - DO NOT USE. {standing.recall.reason}", said]
        if left_out:
            notes.append("The overlay is left out: it is larger than this destination takes.")
        return notes

    def _pid(self) -> Segment:
        patient = self._study.patient
        issuer = patient.issuer or self._context.site.accession_issuer
        identifier = [escaped(patient.patient_id), "", "", authority(issuer), "MR"]
        if not patient.patient_id:
            identifier = [control_id(self._context.result_id), "", "", ASSIGNER, "U"]
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

    def _filler(self) -> str:
        own = entity(control_id(self._context.result_id))
        return escaped(self._study.accession_number) or own

    def _obr(self) -> Segment:
        signed = self._standing.signed
        return Segment(
            "OBR",
            {
                1: "1",
                3: self._filler(),
                4: coded(*codes.procedure(self._study, self._outcome), "LN"),
                7: timestamp(self._study.started),
                18: escaped(self._study.accession_number),
                22: timestamp(self._standing.at),
                24: "RAD",
                25: self._standing.report,
                32: _interpreter(signed) if signed else "",
                **self._priority_fields(),
            },
        )

    def _priority(self) -> str:
        waits = self._standing.awaits_reading
        return codes.triage(self._outcome).hl7_priority if waits else ""

    def _priority_fields(self) -> dict[int, str]:
        priority = self._priority()
        return {
            PriorityField.TQ1_9: {},
            PriorityField.OBR_27_6: {27: components("", "", "", "", "", priority)},
            PriorityField.OBR_5: {5: priority},
        }[self._dialect.priority_field]

    def _tq1(self) -> Iterator[Segment]:
        priority = self._priority()
        if priority and self._dialect.priority_field is PriorityField.TQ1_9:
            coded_priority = coded(priority, _PRIORITIES[priority], "HL70485")
            yield Segment("TQ1", {1: "1", 9: coded_priority})


def _person(name: PersonName) -> str:
    known = components(name.family, name.given, name.middle, name.suffix, name.prefix)
    return known or components("", "", "", "", "", "", "U")


def _interpreter(signed: SignOff) -> str:
    """Give the radiologist as NDL: number, name and namespace as subcomponents, then the time."""
    namespace, value = signed.identifier
    oid = namespace.removeprefix("urn:oid:") if namespace.startswith("urn:oid:") else ""
    owner = ["", oid, "ISO"] if oid else [namespace]
    name = subcomponents(value, signed.radiologist, "", "", "", "", "", "", *owner)
    return COMPONENT.join([name, timestamp(signed.at)])
