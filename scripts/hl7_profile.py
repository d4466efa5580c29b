"""Write which HL7 v2 messages radcds speaks: ``python -m scripts.hl7_profile [--check]``.

Every table and message is made by the code that sends and reads. With ``--check`` nothing is
written; the exit code is 1 where the page differs.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ai_engine.result import (
    Finding,
    ModelIdentity,
    NotAnalysed,
    Outcome,
    Priority,
    Reason,
    TriageResult,
)
from fhir_mappers import codes, oru_observations
from fhir_mappers.hl7_dialect import CharacterSet, Hl7Dialect, Hl7Version
from fhir_mappers.hl7_grammar import field_rules
from fhir_mappers.hl7_inbound.acknowledgement import (
    AcknowledgementCode,
    ReceivedError,
    acknowledgement,
)
from fhir_mappers.hl7_inbound.hl7_message import ErrorCode, Place
from fhir_mappers.hl7_inbound.orders import ACTIONS
from fhir_mappers.hl7_inbound.patient_changes import MERGES, UPDATES
from fhir_mappers.hl7_inbound.reading import CODECS, LIMITS, read_message
from fhir_mappers.hl7_inbound.reported import STATUSES
from fhir_mappers.hl7_tables import CODED_FIELDS, LENGTHS, TABLES
from fhir_mappers.hl7_validation import validate
from fhir_mappers.oru_r01 import Recall, oru_r01, recalled_oru
from fhir_mappers.oru_standing import standing_of
from fhir_mappers.report_context import ReportContext, SignOff, Site, Verdict
from fhir_mappers.study import Instance, Patient, PersonName, Series, Study
from scripts.made_pages import ROOT, write_or_compare

PAGE = Path("docs/conformance/hl7-message-profile.md")
_COMMAND = "python -m scripts.hl7_profile"
_AT = datetime(2026, 11, 20, 9, 30, 4, tzinfo=UTC)
_MODEL = ModelIdentity("cxr-example", "1.0.0", "5f" * 32)
_SITE = Site(
    name="Example Radiology Network",
    base_url="https://radcds.example.org",
    hl7_application="RADCDS",
    hl7_facility="RADNET",
    hl7_receiver=("RIS", "TRUST"),
    accession_issuer="urn:oid:2.999.1",
    timezone="Europe/London",
)
_CONTEXT = ReportContext(
    result_id="12a49765-2f10-5d97-bee7-40b06c53c453",
    site=_SITE,
    model=_MODEL,
    issued=_AT,
    software_version="1.0.0",
    model_card={},
)
_INSTANCE = Instance("2.999.3.1", "1.2.840.10008.5.1.4.1.1.1.1", 1, 1, 1, 1, (), "PA", "DX")
_STUDY = Study(
    study_instance_uid="2.999.3",
    accession_number="ACC1001",
    patient=Patient("MRN1", "Example Trust", PersonName("TEST", "PATIENT"), "1970-01-01", "F"),
    started=datetime(2026, 11, 20, 9, 12, tzinfo=UTC),
    description="Chest PA",
    referring_physician=PersonName(),
    series=(Series("2.999.3.2", "DX", "CHEST", "PA", 1, (_INSTANCE,)),),
)
_ANALYSED = TriageResult(Priority.URGENT, (Finding("pneumothorax", 0.97, 0.5),), (), _MODEL)
_DECLINED = NotAnalysed(Reason.LATERAL_VIEW, "A lateral view.", _MODEL)
_RECALL = Recall("Version 1.0.0 was trained on wrong labels.", _AT)
_PICTURE = b"picture"
_LONGEST_SHOWN = 60
_ORDERS = (
    "|ORM^O01, OMI^O23|orders: ORC-1 to ORC-3, ORC-5; OBR-4, OBR-18, OBR-24; IPC-1, IPC-3, "
    "IPC-5; ZDS-1; priority in TQ1-9, ORC-7.6, OBR-27.6 or OBR-5; PID|"
)
_REPORTS = (
    "|ORU^R01|reports: OBR-3, OBR-18, OBR-22, OBR-25, OBR-32; OBX of type TX, FT, ST, CE and CWE, "
    "and NTE; the study by OBX-3 113014; PID|"
)
_CHECKED = (
    "Separators, character set, order of segments, required and withdrawn fields, repetitions, "
    "data types, escapes, set ids, what OBX-2 says of OBX-5, lengths, and codes of these fields:"
)


def documents() -> Mapping[Path, str]:
    """Give the page by its path below the repository."""
    return {PAGE: "\n".join([*_page(), ""])}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare it; gives the exit code."""
    return write_or_compare(
        documents,
        root=ROOT,
        command=_COMMAND,
        what="Write which HL7 v2 messages radcds speaks.",
        arguments=arguments,
    )


def sent(version: Hl7Version) -> Mapping[str, bytes]:
    """Give a message of each standing in a version, the result with a picture and a link."""
    made = replace(Hl7Dialect.of(_SITE), version=version, link=True)

    def message(outcome: Outcome, context: ReportContext) -> bytes:
        picture = _PICTURE if isinstance(outcome, TriageResult) else None
        return oru_r01(_STUDY, outcome, context=context, overlay_jpeg=picture, dialect=made)

    return {
        "of the AI alone": message(_ANALYSED, _CONTEXT),
        "not analysed": message(_DECLINED, _CONTEXT),
        "confirmed": message(_ANALYSED, _signed(Verdict.CONFIRMED)),
        "corrected": message(_ANALYSED, _signed(Verdict.CORRECTED)),
        "withdrawn": recalled_oru(
            _STUDY, _ANALYSED, context=_CONTEXT, recall=_RECALL, dialect=made
        ),
    }


def _signed(verdict: Verdict) -> ReportContext:
    words = "No pneumothorax: a skin fold." if verdict is Verdict.CORRECTED else ""
    name = ("urn:oid:2.999.2", "C123")
    return replace(_CONTEXT, signed=SignOff(1, verdict, _AT, "Dr Example", name, words))


def _page() -> Iterator[str]:
    yield from (
        "# HL7 v2 message profile",
        "",
        "<!-- Made by scripts/hl7_profile.py; do not edit. -->",
        "",
        "What radcds sends and reads, for the people who connect it. Every table and message here",
        "is made by the code that sends and reads. `radcds hl7 validate FILE` checks a message by",
        "the rules below, `radcds hl7 explain FILE` says it in words.",
    )
    yield from _outbound()
    yield from _inbound()
    yield from _checks()


def _outbound() -> Iterator[str]:
    yield from ("", "## Sent: ORU^R01", "", "Shaped after IHE RAD-128 Results Distribution.", "")
    yield from _table("|what|" + "|".join(Hl7Version) + "|", _by_version())
    yield from ("", "### Status", "")
    yield from _table(
        "|the result is|OBR-25|OBX-11 of the AI|OBX-11 of what is added|", _standings()
    )
    own = oru_observations.AI_IMPRESSION[0]
    yield from (
        "",
        f"The words of the AI in a signed report stand under an OBX-3 of their own, `{own}`.",
        "",
        "### Fields",
        "",
        "Fields that may have a value, in the order of the message; an example of each.",
        "",
    )
    yield from _table("|field|name|versions|example|", _fields())
    yield from ("", "### Codes of OBX-3", "")
    yield from _table("|code|name|system|", _identifiers())
    yield from ("", "### Character sets", "")
    yield from _table("|MSH-18|text that it lacks|", _character_sets())
    for version in Hl7Version:
        yield from _example(f"{version}, of the AI alone", sent(version)["of the AI alone"])
    for standing in ("not analysed", "confirmed", "corrected", "withdrawn"):
        yield from _example(f"2.5.1, {standing}", sent(Hl7Version.V2_5_1)[standing])


def _by_version() -> Iterator[str]:
    made = [replace(Hl7Dialect.of(_SITE), version=version) for version in Hl7Version]
    names = [{line[:3] for line in _lines(sent(d.version)["of the AI alone"])} for d in made]
    rows: Mapping[str, Sequence[object]] = {
        "segments SFT, TQ1": ["yes" if {"SFT", "TQ1"} <= found else "no" for found in names],
        "type of coded values": [each.coded_type for each in made],
        "OBX-18, OBX-19": ["yes" if each.since_2_4 else "no" for each in made],
        "priority": [each.priority_field for each in made],
        "characters of OBX-5": [f"{each.longest_obx_5:,}" for each in made],
        "largest picture, bytes of JPEG": [f"{each.overlay_bytes:,}" for each in made],
    }
    for what, values in rows.items():
        yield f"|{what}|{'|'.join(map(str, values))}|"


def _standings() -> Iterator[str]:
    cases: Mapping[str, tuple[Outcome, ReportContext, Recall | None]] = {
        "the AI's alone": (_ANALYSED, _CONTEXT, None),
        "not analysed": (_DECLINED, _CONTEXT, None),
        "confirmed by a radiologist": (_ANALYSED, _signed(Verdict.CONFIRMED), None),
        "corrected by a radiologist": (_ANALYSED, _signed(Verdict.CORRECTED), None),
        "withdrawn": (_ANALYSED, _CONTEXT, _RECALL),
        "signed, then withdrawn": (_ANALYSED, _signed(Verdict.CONFIRMED), _RECALL),
    }
    for what, (outcome, context, recall) in cases.items():
        stands = standing_of(outcome, context, recall)
        added = [f"{stands.signer_status}, the radiologist"] if stands.signed else []
        added += ["C, the notice"] if recall else []
        yield f"|{what}|{stands.report}|{stands.ai}|{'; '.join(added) or '—'}|"


def _fields() -> Iterator[str]:
    found: dict[tuple[str, int], tuple[list[str], str]] = {}
    for version in Hl7Version:
        for message in sent(version).values():
            for segment in read_message(message).segments:
                for number in range(1, len(segment.fields) + 1):
                    raw = segment.raw(number)
                    versions, example = found.setdefault((segment.name, number), ([], raw))
                    if raw and version not in versions:
                        versions.append(version)
                    found[segment.name, number] = (versions, example or raw)
    order = ["MSH", "SFT", "PID", "PV1", "ORC", "OBR", "NTE", "TQ1", "OBX"]
    words = {
        (name, rule.number): rule.words for name in order for rule in field_rules("2.5.1", name)
    }
    for (name, number), (versions, example) in sorted(
        found.items(), key=lambda each: (order.index(each[0][0]), each[0][1])
    ):
        if versions:
            which = "all" if len(versions) == len(Hl7Version) else ", ".join(versions)
            yield f"|{name}-{number}|{words[name, number]}|{which}|`{_cell(example)}`|"


def _identifiers() -> Iterator[str]:
    named = (
        oru_observations.STUDY_UID,
        oru_observations.TRIAGE,
        oru_observations.ACR_CATEGORY,
        (*codes.PROCEDURE_FINDINGS, "LN"),
        (*codes.IMPRESSION, "LN"),
        oru_observations.AI_IMPRESSION,
        oru_observations.RECALL,
        (*codes.IMAGING_STUDY_REPORT, "LN"),
    )
    for code, name, system in named:
        yield f"|`{code}`|{name}|`{system}`|"


def _character_sets() -> Iterator[str]:
    for each in CharacterSet:
        lacking = (
            "none" if each is CharacterSet.UTF_8 else "without accents, else `?`; an NTE says so"
        )
        yield f"|`{each}`|{lacking}|"


def _inbound() -> Iterator[str]:
    updates = ", ".join(f"ADT^{event}" for event in sorted(UPDATES))
    merges = ", ".join(f"ADT^{event}" for event in sorted(MERGES))
    sets = ", ".join(f"`{name}`" for name in sorted(CODECS))
    limited = (
        f"At most {LIMITS.message_bytes:,} bytes, {LIMITS.segments:,} segments, {LIMITS.fields} "
        f"fields and {LIMITS.repetitions} repetitions. Any version 2.x; any separators. Character "
        f"sets: {sets}; where MSH-18 is empty, that of the feed, else UTF-8."
    )
    yield from ("", "## Read", "")
    yield from _table(
        "|message|what is read|",
        (
            _ORDERS,
            f'|{updates}|PID-3, PID-5, PID-7, PID-8: what is said is changed, `""` deletes|',
            f"|{merges}|MRG-1 is retired, the identifier of PID-3 of the same authority stays|",
            _REPORTS,
        ),
    )
    yield from (
        "",
        limited,
        "",
        "### Order control codes",
        "",
    )
    actions = sorted(set(ACTIONS.values()))
    yield from _table(
        "|what becomes of the order|ORC-1|",
        (
            f"|{action}|{', '.join(sorted(c for c, a in ACTIONS.items() if a is action))}|"
            for action in actions
        ),
    )
    yield from ("", "### Result status", "")
    yield from _table(
        "|report|OBR-25|",
        (
            f"|{status}|{', '.join(sorted(c for c, s in STATUSES.items() if s is status))}|"
            for status in sorted(set(STATUSES.values()))
        ),
    )
    yield from ("", "## Answers")
    for version in Hl7Version:
        yield from _answers(version)


def _answers(version: Hl7Version) -> Iterator[str]:
    order = f"MSH|^~\\&|RIS|TRUST|RADCDS|RADNET|20261120||ORM^O01^ORM_O01|MSG7|P|{version}\r"
    message = read_message(order.encode())
    error = ReceivedError(Place("PID"), ErrorCode.SEGMENT_SEQUENCE)
    said = "PID: the segment is missing; send it"
    for code, text, given in (
        (AcknowledgementCode.AA, "", None),
        (AcknowledgementCode.AE, said, error),
    ):
        yield from _example(
            f"{version}, {code}", acknowledgement(message, code, text, given, at=_AT)
        )


def _checks() -> Iterator[str]:
    yield from (
        "",
        "## Checked by `radcds hl7 validate`",
        "",
        _CHECKED,
        "",
    )
    yield from _table(
        "|field|table|codes|",
        (
            f"|{name}-{number}.{component}|{table}|{', '.join(map(_cell, sorted(TABLES[table])))}|"
            for (name, number), (component, table) in sorted(CODED_FIELDS.items())
        ),
    )
    yield from ("", "Lengths, in characters of a repetition:", "")
    yield from _table(
        "|field|at most|",
        (f"|{name}-{number}|{most:,}|" for (name, number), most in sorted(LENGTHS.items())),
    )


def _example(title: str, message: bytes) -> Iterator[str]:
    assert_valid(message)
    yield from ("", f"### {title}", "", "```hl7", *_lines(message), "```")


def assert_valid(message: bytes) -> None:
    """See that what is shown keeps the rules.

    Raises
    ------
    ValueError
        If it does not.
    """
    if faults := validate(message):
        msg = f"an example is not valid: {faults[0]}"
        raise ValueError(msg)


def _lines(message: bytes) -> list[str]:
    return message.decode().rstrip("\r").split("\r")


def _table(head: str, rows: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield head
    yield re.sub(r"[^|]+", "---", head)
    yield from rows


def _cell(text: str) -> str:
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return shown.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
