"""Results stand in the PACS once, whole, and are believed to stand there only when they do."""

import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicom_files import SERIES_UID, artefacts, dicom_file, result
from hypothesis import given
from hypothesis import strategies as st
from orthanc import Orthanc, orthanc
from standing_clock import StandingClock
from strict_pacs import (
    Answer,
    Connection,
    Seen,
    StrictPacs,
    Work,
    answers,
    as_type,
    changed,
    fine,
    instead,
    lost,
    multipart,
    stow_answer,
    strict_pacs,
)
from studies import STUDY_UID
from tiny_pacs import tiny_pacs

from cds_server.adapters.dicomweb_destination import DicomWebDestination
from cds_server.adapters.dicomweb_service import DicomWebService
from cds_server.adapters.multipart_related import only_part, packed
from cds_server.adapters.stow_response import Fate, verdict
from cds_server.errors import (
    DeliveryFailed,
    DeliveryRefused,
    DestinationUnavailable,
    InstanceUnreadable,
)

FIVE = {
    "secondary_capture": dicom_file(1, size=2 * 1024 * 1024),
    "presentation_state": dicom_file(2, PixelData=None),
    "report": dicom_file(3, PixelData=None),
    "key_object": dicom_file(4, PixelData=None),
    "root_result": dicom_file(5, PixelData=None),
}


@pytest.fixture
def pacs() -> Iterator[StrictPacs]:
    with strict_pacs() as running:
        yield running


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def empty(real: Orthanc) -> Orthanc:
    real.delete_everything()
    return real


def destination(url: str) -> DicomWebDestination:
    return DicomWebDestination(DicomWebService(url, clock=StandingClock(), timeout_s=20))


def item(number: int = 1, reason: int | None = None) -> dict[str, object]:
    named = {"00081155": {"vr": "UI", "Value": [f"{SERIES_UID}.{number}"]}}
    return named if reason is None else {**named, "00081197": {"vr": "US", "Value": [reason]}}


# --- it arrives, once


def test_every_object_of_a_result_arrives_byte_for_byte_in_its_order(pacs: StrictPacs) -> None:
    destination(pacs.url).deliver(result(), artefacts(**FIVE))
    assert [each.content for each in pacs.kept.values()] == list(FIVE.values())
    assert {each.path for each in pacs.asked("POST")} == {f"/v2/studies/{STUDY_UID}"}


def test_orthanc_has_every_object_byte_for_byte(empty: Orthanc) -> None:
    destination(empty.url).deliver(result(), artefacts(**FIVE))
    stored = {
        hashlib.sha256(empty.file(each)).digest() for each in empty.find(StudyInstanceUID=STUDY_UID)
    }
    assert stored == {hashlib.sha256(each).digest() for each in FIVE.values()}


def test_the_second_vendor_has_every_object(tmp_path: Path) -> None:
    with tiny_pacs(tmp_path) as url:
        sends = destination(url)
        sends.deliver(result(), artefacts(**FIVE))
        sends.deliver(result(), artefacts(**FIVE))
        service = DicomWebService(url, clock=StandingClock())
        for number in range(1, 6):
            assert service.lists_instance(STUDY_UID, SERIES_UID, f"{SERIES_UID}.{number}")


def test_a_repeat_sends_nothing(pacs: StrictPacs) -> None:
    for _ in range(2):
        destination(pacs.url).deliver(result(), artefacts(**FIVE))
    assert len(pacs.asked("POST")) == 5


def test_all_objects_are_looked_for_at_once_where_the_pacs_knows_how(pacs: StrictPacs) -> None:
    pacs.add(dicom_file(9, SOPInstanceUID=f"{STUDY_UID}.1.1"))
    for _ in range(2):
        destination(pacs.url).deliver(result(), artefacts(**FIVE))
    searches = [each for each in pacs.asked("GET") if each.path.endswith("/instances")]
    assert len(searches) == 3
    assert len(pacs.asked("POST")) == 5


@pytest.mark.parametrize("search", ["by list", "one by one"])
def test_an_object_that_is_lost_among_others_is_missed(pacs: StrictPacs, search: str) -> None:
    pacs.knows_lists = search == "by list"
    pacs.add(dicom_file(9, SOPInstanceUID=f"{STUDY_UID}.1.1"))

    def loses_the_third(seen: Seen) -> None:
        if seen.method == "GET":
            pacs.kept.pop(f"{SERIES_UID}.3", None)

    pacs.before = loses_the_third
    with pytest.raises(DeliveryFailed, match=r"^report\.dcm: .*does not have it$"):
        destination(pacs.url).deliver(result(), artefacts(**FIVE))


def test_a_result_without_objects_is_delivered(pacs: StrictPacs) -> None:
    destination(pacs.url).deliver(result(), artefacts())
    assert pacs.seen == []


def test_a_pacs_that_cannot_search_for_instances_is_asked_for_the_object(pacs: StrictPacs) -> None:
    pacs.searches_instances = False
    for _ in range(2):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert len(pacs.asked("POST")) == 1


def test_a_repeat_after_a_lost_answer_sends_only_what_is_missing(pacs: StrictPacs) -> None:
    pacs.faults.extend([fine, fine, fine, fine, lost])
    sends = destination(pacs.url)
    with pytest.raises(DeliveryFailed, match=r"^presentation-state\.dcm: .*broke off its answer"):
        sends.deliver(result(), artefacts(**FIVE))
    sends.deliver(result(), artefacts(**FIVE))
    assert len(pacs.asked("POST")) == 5
    assert len(pacs.kept) == 5


@pytest.mark.parametrize("size", [100_000, 2_000_000, 11_000_000])
def test_each_attempt_at_a_busy_pacs_sends_the_same_whole_body(pacs: StrictPacs, size: int) -> None:
    content = dicom_file(size=size)
    sends = destination(pacs.url)
    for _ in range(2):
        pacs.faults.extend([fine, answers(503)])
        with pytest.raises(DeliveryFailed, match="failed with status 503"):
            sends.deliver(result(), artefacts(report=content))
    sends.deliver(result(), artefacts(report=content))
    bodies = [each.body for each in pacs.asked("POST")]
    assert len(bodies) == 3
    assert len(bodies[0]) > size * 0.95
    assert bodies[0] == bodies[1] == bodies[2]
    assert pacs.kept[f"{SERIES_UID}.1"].content == content


# --- "stored" is believed when it is true


def test_a_pacs_that_says_stored_and_has_nothing_is_not_believed(pacs: StrictPacs) -> None:
    pacs.forgets = True
    with pytest.raises(
        DeliveryFailed,
        match=r"^report\.dcm: the archive says that it stored it, but does not have it$",
    ):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(200), "does not say that it stored the object"),
        (Answer(200, b"<html>stored</html>", "text/html"), "does not say that it stored"),
        (Answer(200, b'{"00081199": 5}'), "does not say that it stored"),
        (Answer(200, b'[[["x"]]]'), "does not say that it stored"),
        (Answer(200, b"[" * 100_000), "does not say that it stored"),
        (stow_answer([item(2)], []), "does not say that it stored"),
        (Answer(202, b"{}"), "does not say that it stored"),
    ],
)
def test_success_without_the_identifier_of_the_object_is_none(
    pacs: StrictPacs, answer: Answer, says: str
) -> None:
    pacs.faults.extend([fine, instead(answer)])
    pacs.forgets = True
    with pytest.raises(DeliveryFailed, match=says) as failed:
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert not isinstance(failed.value, DeliveryRefused)


def test_a_body_that_says_stored_counts_at_a_status_that_says_failed(pacs: StrictPacs) -> None:
    def stores_and_answers_400(connection: Connection, work: Work) -> None:
        connection.answer(Answer(400, work().body))

    pacs.faults.extend([fine, stores_and_answers_400])
    destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert len(pacs.asked("POST")) == 1


def test_an_answer_in_a_list_of_one_is_read(pacs: StrictPacs) -> None:
    pacs.faults.extend([fine, changed(lambda body: b"[" + body + b"]")])
    destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))


# --- what is there already


def test_an_object_that_is_there_already_is_compared_and_not_sent(pacs: StrictPacs) -> None:
    pacs.add(dicom_file())
    destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert pacs.asked("POST") == []
    assert pacs.asked("GET")[-1].path.endswith(f"/instances/{SERIES_UID}.1")


@pytest.mark.parametrize(
    "change",
    [
        {"DerivationDescription": "Another"},
        {"SeriesNumber": 2},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"PixelData": b"\0" * (256 * 224 * 2)},
    ],
)
def test_another_object_under_our_identifier_is_said(
    pacs: StrictPacs, change: dict[str, object]
) -> None:
    pacs.add(dicom_file(**{"DerivationDescription": "Ours", **change}))
    with pytest.raises(DeliveryRefused, match="keeps another object under the same identifier"):
        destination(pacs.url).deliver(
            result(), artefacts(report=dicom_file(DerivationDescription="Ours"))
        )
    assert pacs.asked("POST") == []


@pytest.mark.parametrize("status", [200, 202])
def test_a_search_that_answers_nothing_at_all_is_not_taken_for_not_there(
    pacs: StrictPacs, status: int
) -> None:
    pacs.add(dicom_file(DerivationDescription="Another"))
    pacs.keeps_old = True
    pacs.faults.append(answers(status))
    with pytest.raises(DeliveryFailed, match="nothing at all"):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert pacs.asked("POST") == []


def test_orthanc_that_keeps_the_old_object_silently_is_found_out(empty: Orthanc) -> None:
    empty.upload(dicom_file(DerivationDescription="Old"))
    changed_now = dicom_file(DerivationDescription="New")
    service = DicomWebService(empty.url, clock=StandingClock())
    answer = service.store(STUDY_UID, changed_now)
    assert verdict(answer.status, answer.content, f"{SERIES_UID}.1").fate is Fate.STORED
    assert b"Old" in service.instance(STUDY_UID, SERIES_UID, f"{SERIES_UID}.1")
    with pytest.raises(DeliveryRefused, match="keeps another object"):
        destination(empty.url).deliver(result(), artefacts(report=changed_now))


def test_an_object_that_came_between_search_and_store_is_compared(pacs: StrictPacs) -> None:
    content = dicom_file()

    def another_was_faster(seen: Seen) -> None:
        if seen.method == "POST":
            pacs.add(content)

    pacs.before = another_was_faster
    destination(pacs.url).deliver(result(), artefacts(report=content))
    assert pacs.asked("GET")[-1].path.endswith(f"/instances/{SERIES_UID}.1")


def rewritten(content: bytes, **changes: object) -> bytes:
    """Write a file as a PACS may that keeps objects in a form of its own."""
    dataset = pydicom.dcmread(BytesIO(content))
    dataset.file_meta.ImplementationVersionName = "ANOTHER PACS"
    dataset.add_new(0x00080001, "UL", 8)  # length to end: retired, and harmless
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    written = BytesIO()
    pydicom.dcmwrite(written, dataset, enforce_file_format=True)
    return written.getvalue()


@pytest.mark.parametrize(
    "corrected", [{}, {"PatientName": "MARRIED^NAME"}, {"AccessionNumber": "CORRECTED"}]
)
def test_our_object_in_the_form_of_the_pacs_is_ours(
    pacs: StrictPacs, corrected: dict[str, object]
) -> None:
    pacs.add(rewritten(dicom_file(), **corrected))
    destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert pacs.asked("POST") == []


def test_our_report_in_the_form_of_orthanc_and_of_the_pacs_is_ours(empty: Orthanc) -> None:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "One"
    report = dicom_file(
        PixelData=None,
        ConceptNameCodeSequence=[code],
        ImagerPixelSpacing=[0.15, 0.15],
        OperatorsName="A^B",
    )
    empty.upload(rewritten(report))
    destination(empty.url).deliver(result(), artefacts(report=report))
    code.CodeMeaning = "Two"
    with pytest.raises(DeliveryRefused, match="keeps another object"):
        destination(empty.url).deliver(
            result(),
            artefacts(report=dicom_file(PixelData=None, ConceptNameCodeSequence=[code])),
        )


def test_what_cannot_be_compared_is_not_ours(pacs: StrictPacs) -> None:
    pacs.add(rewritten(dicom_file()))
    pacs.faults.extend([fine, fine, answers(404)])
    with pytest.raises(DeliveryRefused, match="keeps another object"):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))


def test_what_is_listed_and_not_given_is_tried_again(pacs: StrictPacs) -> None:
    pacs.add(dicom_file())
    pacs.faults.extend([fine, answers(404)])
    with pytest.raises(DeliveryFailed, match="does not give it"):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    pacs.faults.extend([fine, as_type('multipart/related; boundary="other"')])
    with pytest.raises(DeliveryFailed, match="cannot be compared"):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))


# --- what is refused, and why


@pytest.mark.parametrize(
    ("reason", "kind", "says"),
    [
        (272, DeliveryFailed, "failed to process the object"),
        (0xA700, DeliveryFailed, "out of resources"),
        (0xA7FF, DeliveryFailed, "out of resources"),
        (0xA999, DeliveryRefused, "does not match its SOP Class"),
        (43264, DeliveryRefused, "does not pass its validation"),
        (43265, DeliveryRefused, "belongs to another study"),
        (45071, DeliveryFailed, "another process is storing the object"),
        (0x0122, DeliveryRefused, "does not support objects of this SOP Class"),
        (0x0124, DeliveryFailed, "may not store"),
        (0xC122, DeliveryRefused, "transfer syntax"),
        (0xC000, DeliveryRefused, "does not understand the object"),
        (0xCFFF, DeliveryRefused, "does not understand the object"),
        (1, DeliveryFailed, "reason 1, which is not a known one"),
    ],
)
def test_a_failure_reason_is_put_into_words(
    pacs: StrictPacs, reason: int, kind: type[Exception], says: str
) -> None:
    pacs.faults.extend([fine, instead(stow_answer([], [item(1, reason)]))])
    with pytest.raises(kind, match=says) as failed:
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert type(failed.value) is kind
    assert f"reason {reason}" in str(failed.value)
    assert STUDY_UID not in str(failed.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, DeliveryRefused),
        (404, DeliveryFailed),
        (406, DeliveryRefused),
        (409, DeliveryFailed),
        (413, DeliveryRefused),
        (415, DeliveryRefused),
        (401, DestinationUnavailable),
        (403, DestinationUnavailable),
        (424, DestinationUnavailable),
        (429, DestinationUnavailable),
        (500, DestinationUnavailable),
        (503, DestinationUnavailable),
        (301, DestinationUnavailable),
    ],
)
def test_a_status_without_reason_is_judged_and_its_text_is_not_passed_on(
    pacs: StrictPacs, status: int, kind: type[Exception]
) -> None:
    pacs.faults.extend([fine, answers(status, b"PatientName=DOE^JANE", Location="http://x.y/")])
    with pytest.raises(DeliveryFailed) as failed:
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))
    assert type(failed.value) is kind
    assert "DOE" not in str(failed.value)


def test_the_reason_for_another_object_is_not_taken_for_ours(pacs: StrictPacs) -> None:
    pacs.faults.extend([fine, instead(stow_answer([], [item(2, 45070)]))])
    with pytest.raises(DeliveryFailed, match="gives no reason but status 409"):
        destination(pacs.url).deliver(result(), artefacts(report=dicom_file()))


def test_the_strict_pacs_refuses_what_azure_refuses(pacs: StrictPacs) -> None:
    service = DicomWebService(pacs.url, clock=StandingClock())

    def judged(study: str, content: bytes) -> Fate:
        answer = service.store(study, content)
        return verdict(answer.status, answer.content, f"{SERIES_UID}.1").fate

    assert judged("1.2.3", dicom_file()) is Fate.NEVER
    assert judged(STUDY_UID, dicom_file(PatientID=None)) is Fate.NEVER
    assert judged(STUDY_UID, b"garbage") is Fate.LATER
    assert judged(STUDY_UID, dicom_file()) is Fate.STORED
    assert judged(STUDY_UID, dicom_file()) is Fate.THERE_ALREADY


def test_orthanc_tells_of_garbage_and_of_a_wrong_study(empty: Orthanc) -> None:
    service = DicomWebService(empty.url, clock=StandingClock())
    garbage = service.store(STUDY_UID, b"garbage")
    assert verdict(garbage.status, garbage.content, f"{SERIES_UID}.1").fate is Fate.NEVER
    elsewhere = service.store("1.2.3", dicom_file())
    assert verdict(elsewhere.status, elsewhere.content, f"{SERIES_UID}.1") == verdict(
        409, stow_answer([], [item(1, 272)]).body, f"{SERIES_UID}.1"
    )


def test_one_object_that_is_refused_does_not_keep_the_others_away(pacs: StrictPacs) -> None:
    refused = instead(stow_answer([], [item(1, 43264)]))
    pacs.faults.extend([fine, fine, refused])
    sends = destination(pacs.url)
    with pytest.raises(DeliveryRefused, match=r"^secondary-capture\.dcm: .*validation"):
        sends.deliver(result(), artefacts(**FIVE))
    assert len(pacs.kept) == 4


def test_what_may_be_accepted_later_is_tried_again_though_another_is_refused(
    pacs: StrictPacs,
) -> None:
    never = instead(stow_answer([], [item(1, 43264)]))
    pacs.faults.extend([fine, fine, never, fine, answers(409)])
    with pytest.raises(
        DeliveryFailed, match=r"presentation-state\.dcm.*secondary-capture\.dcm"
    ) as failed:
        destination(pacs.url).deliver(result(), artefacts(**FIVE))
    assert not isinstance(failed.value, DeliveryRefused)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", dicom_file(StudyInstanceUID="1.2.3"), dicom_file(SeriesInstanceUID=None)],
)
def test_what_is_no_object_of_the_study_is_never_sent(pacs: StrictPacs, content: bytes) -> None:
    with pytest.raises(DeliveryRefused, match=r"^report\.dcm: it "):
        destination(pacs.url).deliver(result(), artefacts(report=content))
    assert pacs.seen == []


def test_the_destination_has_its_name(pacs: StrictPacs) -> None:
    assert destination(pacs.url).name == "pacs"


# --- bodies


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["00081198", "00081199", "00081155", "00081197", "Value", "vr"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.integers(200, 599), JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_answer_is_taken_for_stored_that_does_not_name_the_object(
    status: int, content: bytes
) -> None:
    assert verdict(status, content, "1.2.3").fate is not Fate.STORED
    assert verdict(status, content + b"[", "1.2.3").says


@given(st.binary(max_size=300))
def test_what_is_packed_is_unpacked(content: bytes) -> None:
    body, content_type = packed(content)
    assert only_part(body, content_type) == content
    assert packed(content) == (body, content_type)


def test_a_boundary_that_is_in_the_body_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    boundaries = iter(["taken", "taken too", "free"])

    class Digest:
        def hexdigest(self) -> str:
            return next(boundaries)

    monkeypatch.setattr("cds_server.adapters.multipart_related.hashlib.sha256", lambda _: Digest())
    content = b"\r\n--taken--\r\n--taken too--\r\n"
    body, content_type = packed(content)
    assert content_type.endswith("boundary=free")
    assert only_part(body, content_type) == content


@given(st.binary(max_size=200), st.text(max_size=40))
def test_no_body_is_opened_but_a_part_or_said_to_be_bad(body: bytes, content_type: str) -> None:
    for boundary in (content_type, 'multipart/related; boundary="b"'):
        try:
            assert only_part(body, boundary) in body
        except InstanceUnreadable as error:
            assert str(error).startswith("The archive sent")


WHOLE = multipart([b"content"], "b").body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "holds no object"),
        (b"--b--\r\n", "holds no object"),
        (b"content", "holds no object"),
        (WHOLE[:10], "holds no object"),
        (WHOLE[:-10], "cut off"),
        (multipart([b"1", b"2"], "b").body, "several objects"),
    ],
)
def test_a_body_that_is_not_one_whole_part_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(InstanceUnreadable, match=says):
        only_part(body, "multipart/related; boundary=b")


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary=b',
        "Multipart/Related;boundary=b;type=application/dicom",
        'multipart/related; boundary="b"; start="<x>"',
    ],
)
def test_every_way_of_naming_the_boundary_is_read(content_type: str) -> None:
    assert only_part(b"preamble\r\n" + WHOLE + b"epilogue", content_type) == b"content"
    assert only_part(b"--b\r\n\r\n\r\n--b--", content_type) == b""


@pytest.mark.parametrize(
    "content_type", ["multipart/related", "multipart/related; boundary=", "x; boundary=\xe9"]
)
def test_parts_that_cannot_be_told_apart_are_refused(content_type: str) -> None:
    with pytest.raises(InstanceUnreadable, match="told apart"):
        only_part(WHOLE, content_type)


def test_a_single_part_is_read_too(pacs: StrictPacs) -> None:
    pacs.single_part = True
    kept = pacs.add(dicom_file())
    service = DicomWebService(pacs.url, clock=StandingClock())
    assert service.instance(kept.study, kept.series, kept.instance) == kept.content
