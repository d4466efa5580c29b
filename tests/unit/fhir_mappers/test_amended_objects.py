"""DICOM objects of a result that was signed or withdrawn: whose words, which times, what stands."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from unicodedata import category

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from studies import OUTCOMES, chest_image, chest_instance, chest_study, context

from ai_engine.result import TriageResult
from fhir_mappers.amended_objects import signed_objects, withdrawn_objects
from fhir_mappers.dicom_results import dicom_results
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.overlay import overlay_rgb, shrunk
from fhir_mappers.report_context import DisplayMode, Recall, ReportContext, SignOff, Verdict

AT = datetime(2026, 11, 21, 2, 15, 30, tzinfo=UTC)
SIGNED = SignOff(1, Verdict.CORRECTED, AT, "Dr A Example", ("urn:gmc", "7654321"), "A skin fold.")
RECALL = Recall("Reads detector X wrongly.", AT)
LOCATING = {"secondary-capture.dcm", "presentation-state.dcm", "saliency.dcm", "key-object.dcm"}


def made(
    name: str = "urgent", mode: DisplayMode = DisplayMode.OVERLAY, **changes: object
) -> dict[str, bytes]:
    outcome = OUTCOMES[name]
    picture = None
    if isinstance(outcome, TriageResult):
        picture = overlay_rgb(shrunk(chest_image()), outcome.saliency[0], caption=["any"])
    return dicom_results(
        chest_study(),
        outcome,
        header=chest_instance(**changes),
        picture=picture,
        context=context(mode),
    )


def read(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def signed_report(report: bytes, signed: SignOff, of: ReportContext) -> bytes:
    return signed_objects({"report.dcm": report}, signed, of)["report.dcm"]


def items(dataset: Dataset) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence", ()):
        found += [item, *items(item)]
    return found


def texts(dataset: Dataset) -> list[str]:
    return [str(each.TextValue) for each in items(dataset) if each.ValueType == "TEXT"]


def uid(content: bytes) -> str:
    return str(read(content).SOPInstanceUID)


def named(dataset: Dataset) -> set[str]:
    """Give the instances that the content tree refers to."""
    return {
        str(reference.ReferencedSOPInstanceUID)
        for item in items(dataset)
        for reference in item.get("ReferencedSOPSequence", ())
    }


def evidence(dataset: Dataset) -> set[str]:
    return {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def test_the_radiologist_is_published_letter_for_letter() -> None:
    words = "норма, 気胸なし\nC:\\path é"
    for content in signed_objects(
        made(), replace(SIGNED, statement=words, radiologist="王伟"), context()
    ).values():
        dataset = read(content)
        assert words.replace("\n", "\r\n") in texts(dataset)
        assert "王伟 corrects the AI result." in texts(dataset)
        assert str(dataset.VerifyingObserverSequence[0].VerifyingObserverName) == "王伟"


@pytest.mark.parametrize(
    ("declared", "words", "written"),
    [
        ("ISO_IR 144", "норма", "ISO_IR 144"),
        ("ISO_IR 144", "normal", "ISO_IR 144"),
        ("ISO_IR 144", "気胸なし", "ISO_IR 192"),
        ("ISO_IR 100", "normal", "ISO_IR 100"),
        ("ISO_IR 13", "気胸なし", "ISO_IR 192"),
        (["", "ISO 2022 IR 87"], "気胸なし", "ISO_IR 192"),
        ("GB18030", "左肺\\", "GB18030"),
        (None, "é", "ISO_IR 192"),
    ],
)
def test_the_character_set_changes_only_where_the_words_need_it(
    declared: object, words: str, written: str
) -> None:
    name = "Иванова^Анна" if declared == "ISO_IR 144" else "TEST^PATIENT"
    first = made(SpecificCharacterSet=declared, PatientName=name)
    signed = replace(SIGNED, statement=words)
    dataset = read(signed_report(first["report.dcm"], signed, context()))
    assert dataset.SpecificCharacterSet == written
    assert words in texts(dataset)
    assert dataset.PatientName == name
    again = read(
        withdrawn_objects(
            {"report.dcm": first["report.dcm"]},
            chest_study(),
            replace(RECALL, reason=words),
            context(),
        )["key-object.dcm"]
    )
    assert again.SpecificCharacterSet == written
    assert words in texts(again)
    assert again.PatientName == name


@pytest.mark.parametrize(
    ("radiologist", "identifier", "name"),
    [
        ("Dr A Example", "1", "Dr A Example"),
        (" ", "7654321", "7654321"),
        ("^=\\", " ", "Radiologist"),
        ("Example^Ann=x\\y\n", "1", "Example Ann x y"),
        ("x" * 63 + " yz", "1", "x" * 63),
    ],
)
def test_who_verified_is_always_named_and_is_a_name(
    radiologist: str, identifier: str, name: str
) -> None:
    signed = replace(SIGNED, radiologist=radiologist, identifier=("", identifier))
    dataset = read(signed_report(made()["report.dcm"], signed, context()))
    assert str(dataset.VerifyingObserverSequence[0].VerifyingObserverName) == name
    assert f"{name} corrects the AI result." in texts(dataset)


REPORT = made()["report.dcm"]


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text(), st.text())
def test_any_words_give_a_report_that_reads_back(words: str, name: str, identifier: str) -> None:
    signed = replace(SIGNED, statement=words, radiologist=name, identifier=("", identifier))
    dataset = read(signed_report(REPORT, signed, context()))
    published = str(dataset.VerifyingObserverSequence[0].VerifyingObserverName)
    assert 0 < len(published) <= 64
    letters = "".join(each for each in words if category(each) not in {"Cc", "Cs"}).split()
    assert "".join(letters) in "".join("".join(texts(dataset)).split())


# ── What a sign-off makes of a report ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["urgent", "not_analysed"])
def test_what_is_verified_is_complete(name: str) -> None:
    for content in signed_objects(made(name), SIGNED, context()).values():
        dataset = read(content)
        flags = (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag)
        assert flags == ("COMPLETE", "VERIFIED", "FINAL")
        assert "CompletionFlagDescription" not in dataset


@pytest.mark.parametrize(
    ("offset", "day", "time", "written"),
    [("-0400", "20261120", "221530", "-0400"), (None, "20261121", "021530", "+0000")],
)
def test_times_are_told_in_the_zone_of_the_study(
    offset: str | None, day: str, time: str, written: str
) -> None:
    first = made(TimezoneOffsetFromUTC=offset)
    signed = signed_objects(first, SIGNED, context())
    withdrawn = withdrawn_objects(first, chest_study(), RECALL, context())
    for content in (*signed.values(), *withdrawn.values()):
        dataset = read(content)
        assert (dataset.ContentDate, dataset.ContentTime) == (day, time)
        assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == (day, time)
    (verifying,) = read(signed["report.dcm"]).VerifyingObserverSequence
    assert verifying.VerificationDateTime == f"{day}{time}{written}"


def test_the_root_result_leads_to_the_signed_report_and_not_to_the_preliminary_one() -> None:
    first = made()
    signed = signed_objects(first, SIGNED, context())
    root = read(signed["root-result.dcm"])
    valid = {uid(first[name]) for name in LOCATING} | {uid(signed["report.dcm"])}
    image = str(chest_instance().SOPInstanceUID)
    assert named(root) == evidence(root) == valid | {image}
    assert root.InstanceNumber == 2
    before = root.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid(first["root-result.dcm"])


def test_the_same_amendment_gives_the_same_bytes() -> None:
    first = made()
    assert signed_objects(first, SIGNED, context()) == signed_objects(first, SIGNED, context())
    withdrawn = [withdrawn_objects(first, chest_study(), RECALL, context()) for _ in range(2)]
    assert withdrawn[0] == withdrawn[1]


def test_a_result_without_objects_stays_without() -> None:
    assert signed_objects({}, SIGNED, context()) == {}
    assert withdrawn_objects({}, chest_study(), RECALL, context()) == {}


def test_a_report_of_somebody_else_is_not_amended() -> None:
    with pytest.raises(InvalidMessage, match="Qualitative Evaluations"):
        signed_report(made()["saliency.dcm"], SIGNED, context())


# ── What a withdrawal takes back ─────────────────────────────────────────────────────────────────


def test_a_withdrawal_rejects_every_report_that_was_ever_published() -> None:
    first = made()
    one = signed_objects(first, SIGNED, context())
    two = signed_objects({**first, **one}, replace(SIGNED, number=2), context())
    every = [*first.values(), *one.values(), *two.values()]
    withdrawn = withdrawn_objects({**first, **two}, chest_study(), RECALL, context(), earlier=every)
    note = read(withdrawn["key-object.dcm"])
    assert named(note) == evidence(note) == {uid(each) for each in every}
    assert len(named(note)) == len(every) == 10
    root = read(withdrawn["root-result.dcm"])
    image = str(chest_instance().SOPInstanceUID)
    assert named(root) == {image, uid(withdrawn["report.dcm"]), uid(withdrawn["key-object.dcm"])}
    assert list(withdrawn) == ["report.dcm", "key-object.dcm", "root-result.dcm"]


def test_nobody_is_said_to_have_verified_a_withdrawn_report() -> None:
    first = made()
    signed = signed_objects(first, SIGNED, context())
    withdrawn = withdrawn_objects({**first, **signed}, chest_study(), RECALL, context())
    for name in ("report.dcm", "root-result.dcm"):
        dataset = read(withdrawn[name])
        flags = (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag)
        assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
        assert "VerifyingObserverSequence" not in dataset
        first_words = texts(dataset)
        assert first_words.index("AI RESULT WITHDRAWN - DO NOT USE.") < first_words.index(
            "Dr A Example corrects the AI result."
        )


# ── A site that shows no location any more ───────────────────────────────────────────────────────


def test_no_location_is_published_again_where_the_site_shows_none_now() -> None:
    first = made()
    hidden = context(DisplayMode.TRIAGE_ONLY)
    signed = signed_objects(first, SIGNED, hidden)
    withdrawn = withdrawn_objects({**first, **signed}, chest_study(), RECALL, hidden)
    old = withdrawn_objects(first, chest_study(), RECALL, hidden)
    for content in (*signed.values(), *withdrawn.values(), *old.values()):
        assert "SCOORD" not in {each.ValueType for each in items(read(content))}
    maps = {uid(first[name]) for name in LOCATING}
    for each in (signed, withdrawn, old):
        assert not maps & named(read(each["root-result.dcm"]))
        assert not maps & evidence(read(each["root-result.dcm"]))
    assert maps <= named(read(withdrawn["key-object.dcm"])), "they are still rejected"


def test_a_report_whose_regions_are_taken_out_says_what_one_without_ever_said() -> None:
    hidden = context(DisplayMode.TRIAGE_ONLY)
    taken_out = read(signed_report(made()["report.dcm"], SIGNED, hidden))
    never_there = made(mode=DisplayMode.TRIAGE_ONLY)["report.dcm"]
    assert (
        taken_out.ContentSequence
        == read(signed_report(never_there, SIGNED, hidden)).ContentSequence
    )
