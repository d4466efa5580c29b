"""A result after it was published: signed, corrected, or withdrawn, in every channel at once."""

import io
import json
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from studies import (
    ISSUED,
    MODEL,
    OUTCOMES,
    STUDY_UID,
    chest_image,
    chest_instance,
    chest_study,
    context,
)
from studies import site as example_site

from cds_server.adapters.in_memory import (
    InMemoryAuditTrail,
    InMemoryFeedbackStore,
    InMemoryResultStore,
)
from cds_server.adapters.in_memory_amendments import InMemoryAmendmentStore
from cds_server.adapters.system_clock import SystemClock
from cds_server.amending import Amending
from cds_server.amendments import RecallAsked, SignOffAsked
from cds_server.inbound_content import Content
from cds_server.inbox import InboundMessage
from cds_server.outbox import order_key
from cds_server.ports import StoredResult
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.hl7_inbound.reading import read_message
from fhir_mappers.hl7_inbound.reported import read_reports
from fhir_mappers.identifiers import result_id
from fhir_mappers.report_context import DisplayMode, Recall, ReportSet, SignOff, Verdict
from fhir_mappers.report_set import report_set

RESULT = result_id(STUDY_UID, MODEL.sha256)
AT = ISSUED + timedelta(hours=1)
CONFIRMED = SignOff(0, Verdict.CONFIRMED, AT, "Dr A Example", ("urn:gmc", "7654321"))
CORRECTED = SignOff(
    0, Verdict.CORRECTED, AT, "Dr A Example", ("urn:gmc", "7654321"), "A skin fold, no effusion."
)
RECALL = RecallAsked(MODEL.sha256, Recall("Reads detector X wrongly.", AT), "operator")


class Server:
    """A result that was published, and what is published of it afterwards."""

    def __init__(self, name: str = "urgent", mode: DisplayMode = DisplayMode.OVERLAY) -> None:
        self.trail = InMemoryAuditTrail()
        self.store = InMemoryResultStore(self.trail)
        self.amendments = InMemoryAmendmentStore(self.store, InMemoryFeedbackStore(self.store))
        self.notes: list[tuple[str, str]] = []
        self.amending = Amending(
            self.store,
            self.amendments,
            inbox=self.store.inbox,
            outbox=self.store.outbox,
            reports_sign=True,
            destinations=["ris", "pacs"],
            site=example_site(mode),
            clock=SystemClock(),
            software_version="0.1.0",
            note=lambda name, trouble: self.notes.append((name, trouble)),
        )
        outcome = OUTCOMES[name]
        analysed = name in {"urgent", "flagged", "normal"}
        artefacts = report_set(
            chest_study(),
            outcome,
            context=context(mode),
            source=chest_instance(),
            image=chest_image() if analysed else None,
        )
        self.store.notice(RESULT, STUDY_UID, ISSUED)
        self.store.save(
            StoredResult(RESULT, chest_study(), outcome, ISSUED, {"infer": 1.0}),
            artefacts,
            audit_events=[],
            destinations=["ris", "pacs"],
            order_key=order_key(example_site(mode).accession_issuer, "ACC1001", STUDY_UID),
        )
        self.first = artefacts

    def sign(self, signed: SignOff = CONFIRMED) -> int:
        self.amendments.ask_sign_off(SignOffAsked("", RESULT, signed, "viewer"), audit_events=[])
        return self.amending.look()

    def recall(self) -> int:
        self.amendments.ask_recall(RECALL, audit_events=[])
        return self.amending.look()

    @property
    def latest(self) -> ReportSet:
        last = self.amendments.amendments(RESULT)[-1]
        return self.store.artefacts(last.publication.publication_id)

    def resources(self, kind: str) -> list[dict[str, Any]]:
        entries = json.loads(self.latest.bundle)["entry"]
        return [e["resource"] for e in entries if e["resource"]["resourceType"] == kind]

    def report(self) -> Dataset:
        return pydicom.dcmread(io.BytesIO(self.latest.dicom["report.dcm"]))


def fields(message: bytes, name: str, number: int) -> list[str]:
    segments = [line.split("|") for line in message.decode().split("\r") if line[:3] == name]
    shift = 1 if name == "MSH" else 0
    return [each[number - shift] if len(each) > number - shift else "" for each in segments]


def words(dataset: Dataset) -> str:
    return " ".join(
        str(item.TextValue) for item in _items(dataset) if item.get("ValueType") == "TEXT"
    )


def _items(dataset: Dataset) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence", ()):
        found += [item, *_items(item)]
    return found


@pytest.mark.parametrize(
    ("signed", "fhir", "hl7"), [(CONFIRMED, "final", "F"), (CORRECTED, "amended", "C")]
)
def test_a_signed_result_is_final_or_amended_in_every_channel(
    signed: SignOff, fhir: str, hl7: str
) -> None:
    server = Server()
    assert server.sign(signed) == 1
    (report,) = server.resources("DiagnosticReport")
    assert report["status"] == fhir
    assert {each["status"] for each in server.resources("Observation")} == {fhir}
    assert fields(server.latest.oru, "OBR", 25) == [hl7]
    dataset = server.report()
    assert dataset.VerificationFlag == "VERIFIED"
    assert dataset.PreliminaryFlag == "FINAL"
    assert str(dataset.VerifyingObserverSequence[0].VerifyingObserverName) == "Dr A Example"
    card = json.loads(server.latest.card)["cards"][0]
    assert ("Confirmed" if fhir == "final" else "Corrected") in card["summary"]


def test_the_words_of_a_correction_lead_and_those_of_the_ai_stay() -> None:
    server = Server()
    server.sign(CORRECTED)
    (report,) = server.resources("DiagnosticReport")
    conclusion = report["conclusion"]
    assert conclusion.index("A skin fold") < conclusion.index("AI")
    assert "A skin fold" in server.latest.oru.decode()
    assert words(server.report()).index("A skin fold") < words(server.report()).index("AI PRELIM")
    assert "A skin fold" in json.loads(server.latest.card)["cards"][0]["detail"]


def test_who_signed_stands_beside_who_asserted_and_the_trail_says_whether_they_agree() -> None:
    for signed, concordance in ((CONFIRMED, "concordant"), (CORRECTED, "discordant")):
        server = Server()
        server.sign(signed)
        asserted, signed_by = server.resources("Provenance")
        assert asserted["reason"][0]["coding"][0]["code"] == "AIAST"
        assert "7654321" in json.dumps(signed_by)
        told = json.loads(server.trail.recorded[-1])
        details = {d["type"]: d["valueString"] for e in told["entity"] for d in e.get("detail", [])}
        assert details["concordance"] == concordance
        assert details["ai-result"] == "URGENT"


def test_a_later_report_names_the_earlier_one_and_is_another_object() -> None:
    server = Server()
    first = pydicom.dcmread(io.BytesIO(server.first.dicom["report.dcm"]))
    server.sign()
    second = server.report()
    server.sign(CORRECTED)
    third = server.report()
    uids = {first.SOPInstanceUID, second.SOPInstanceUID, third.SOPInstanceUID}
    assert len(uids) == 3
    assert first.SeriesInstanceUID == second.SeriesInstanceUID == third.SeriesInstanceUID
    named = third.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == second.SOPInstanceUID
    assert [first.InstanceNumber, second.InstanceNumber, third.InstanceNumber] == [1, 2, 3]


def test_each_publication_has_a_control_id_and_an_order_of_its_own() -> None:
    server = Server()
    server.sign()
    server.sign(CORRECTED)
    messages = [server.first.oru] + [
        server.store.artefacts(each.publication.publication_id).oru
        for each in server.amendments.amendments(RESULT)
    ]
    ids = [fields(each, "MSH", 10)[0] for each in messages]
    assert len(set(ids)) == 3
    waiting = [each.publication_id for each in server.store.outbox.deliveries(destination="ris")]
    assert waiting == [
        RESULT,
        *(each.publication.publication_id for each in server.amendments.amendments(RESULT)),
    ]


def test_a_sign_off_is_published_once() -> None:
    server = Server()
    assert server.sign() == 1
    assert server.amending.look() == 0
    assert len(server.amendments.amendments(RESULT)) == 1


@pytest.mark.parametrize("signs", [False, True])
def test_a_recalled_result_is_taken_back_in_every_channel(signs: bool) -> None:  # noqa: FBT001
    server = Server()
    if signs:
        server.sign()
    assert server.recall() == 1
    (report,) = server.resources("DiagnosticReport")
    assert report["status"] == ("corrected" if signs else "entered-in-error")
    assert {each["status"] for each in server.resources("Observation")} == {"entered-in-error"}
    assert {each["status"] for each in server.resources("Media")} == {"entered-in-error"}
    assert "W" in fields(server.latest.oru, "OBX", 11)
    assert "WITHDRAWN - DO NOT USE" in words(server.report())
    assert "Reads detector X wrongly." in words(server.report())
    card = json.loads(server.latest.card)["cards"][0]
    assert card["summary"] == "AI result withdrawn: do not use it"
    for shown in (card["summary"], card["detail"]):
        assert "URGENT" not in shown
    assert server.store.entry(RESULT).recalled
    assert server.amending.look() == 0, "once"


def test_every_object_of_a_recalled_result_is_rejected_in_the_pacs() -> None:
    server = Server()
    server.recall()
    note = pydicom.dcmread(io.BytesIO(server.latest.dicom["key-object.dcm"]))
    assert note.ConceptNameCodeSequence[0].CodeValue == "113037"
    rejected = {
        str(instance.ReferencedSOPInstanceUID)
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    own = {
        str(pydicom.dcmread(io.BytesIO(each), stop_before_pixels=True).SOPInstanceUID)
        for each in server.first.dicom.values()
    }
    assert rejected == own


def test_nothing_is_signed_that_was_recalled_and_operators_are_told() -> None:
    server = Server()
    server.recall()
    assert server.sign() == 0
    assert server.notes == [
        ("sign-off", "A sign-off was not published: its result was recalled before it was signed.")
    ]
    assert server.amendments.sign_offs_asked() == []


REPORT = (
    "MSH|^~\\&|RIS|RAD|RADCDS|RAD|20261120110000+0000||ORU^R01^ORU_R01|R1|P|2.5.1\r"
    "PID|1||{patient}^^^TRUST^MR||X^Y\r"
    "OBR|1||ACC1001|36643-5^XR^LN|||20261120|||||||||||{accession}||||20261120110000+0000|||"
    "{status}|||||||G7654321&Example&Ann^^^^^^^^^GMC\r"
    "OBX|1|TX|19005-8^Impression^LN||A skin fold.||||||{status}\r"
)


def reported(
    server: Server, status: str, *, patient: str = "MRN 123456", accession: str = "ACC1001"
) -> int:
    said = REPORT.format(patient=patient, accession=accession, status=status).encode()
    message = read_message(said)
    reports = read_reports(message, zone=UTC)
    inbox = server.store.inbox
    kept = InboundMessage(("RIS", "RAD"), "R1", "ORU^R01", AT, said)
    inbox.keep(kept, audit_events=[])
    (waiting,) = inbox.waiting(limit=9)
    inbox.finish(waiting.sequence, Content(reports=reports), at=AT)
    return server.amending.look()


@pytest.mark.parametrize(("status", "fhir"), [("F", "final"), ("C", "amended")])
def test_a_report_that_comes_in_signs_the_result_of_its_study(status: str, fhir: str) -> None:
    server = Server()
    assert reported(server, status) == 1
    (report,) = server.resources("DiagnosticReport")
    assert report["status"] == fhir
    assert "A skin fold." in report["conclusion"]
    assert server.amending.look() == 0, "once"


@pytest.mark.parametrize(
    "changes", [{"patient": "MRN 999"}, {"accession": "ACC9999"}, {"status": "P"}]
)
def test_a_report_of_another_patient_or_study_or_not_final_signs_nothing(
    changes: dict[str, str],
) -> None:
    server = Server()
    status = changes.pop("status", "F")
    assert reported(server, status, **changes) == 0
    assert server.amendments.amendments(RESULT) == []


def test_where_the_site_does_not_say_so_a_report_signs_nothing() -> None:
    server = Server()
    server.amending._reports_sign = False
    assert reported(server, "F") == 0
    assert server.store.inbox.reports(limit=9) == [], "it was looked at"


def test_what_was_not_analysed_is_not_recalled() -> None:
    server = Server("not_analysed")
    assert server.recall() == 0


def test_a_recall_reaches_results_that_come_after_it() -> None:
    server = Server()
    server.recall()
    later = replace(server.store.entry(RESULT).result, result_id=result_id("1.2.3", MODEL.sha256))  # type: ignore[type-var]
    server.store.notice(later.result_id, STUDY_UID, AT)
    server.store.save(later, server.first, audit_events=[], destinations=["ris"])
    assert server.amending.look() == 1
    assert server.store.entry(later.result_id).recalled


@pytest.mark.parametrize("signed", [CONFIRMED, CORRECTED])
def test_a_triage_only_site_gets_no_location_in_any_later_publication(signed: SignOff) -> None:
    server = Server(mode=DisplayMode.TRIAGE_ONLY)
    server.sign(signed)
    assert server.latest.overlay_png is None
    assert server.resources("Media") == []
    assert b"SCOORD" not in server.latest.dicom["report.dcm"]
    assert not fields(server.latest.oru, "OBX", 2).count("ED")


def test_the_same_sign_off_is_the_same_bytes() -> None:
    published = []
    for _ in range(2):
        server = Server()
        server.sign(CORRECTED)
        published.append(server.latest)
    assert published[0] == published[1]


def test_a_crash_before_the_answer_is_noted_publishes_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    with monkeypatch.context() as broken:

        def crash(_: str) -> None:
            raise KeyboardInterrupt

        broken.setattr(server.amendments, "answer_sign_off", crash)
        with pytest.raises(KeyboardInterrupt):
            server.sign()
    assert server.amending.look() in {0, 1}
    assert len(server.amendments.amendments(RESULT)) == 1
    assert server.amendments.sign_offs_asked() == []


def test_the_same_word_said_twice_is_published_once() -> None:
    server = Server()
    assert server.sign(CORRECTED) == 1
    assert server.sign(replace(CORRECTED, at=AT + timedelta(seconds=1))) == 0
    assert len(server.amendments.amendments(RESULT)) == 1


def test_who_confirms_a_correction_confirms_the_correction_and_loses_no_word_of_it() -> None:
    server = Server()
    server.sign(CORRECTED)
    server.sign(replace(CONFIRMED, radiologist="Dr B Other", statement="I agree."))
    (report,) = server.resources("DiagnosticReport")
    assert report["status"] == "amended"
    for channel in (report["conclusion"], server.latest.oru.decode(), server.latest.card.decode()):
        assert "A skin fold" in channel
        assert "I agree" in channel


def test_a_sign_off_gives_everything_that_the_result_gave() -> None:
    server = Server()
    server.sign()
    assert set(server.latest.dicom) == set(server.first.dicom)
    before, after = (
        {each["request"]["url"] for each in json.loads(bundle)["entry"]}
        for bundle in (server.first.bundle, server.latest.bundle)
    )
    assert before < after


def test_what_the_radiologist_said_stays_said_where_the_model_is_recalled() -> None:
    server = Server()
    server.sign(CORRECTED)
    server.recall()
    assert "A skin fold" in server.latest.oru.decode()


def test_a_corrected_or_recalled_result_has_a_card_also_where_normal_ones_have_none() -> None:
    for action in (lambda each: each.sign(CORRECTED), lambda each: each.recall()):
        server = Server("normal")
        server.store.sets[RESULT] = replace(server.first, card=b'{"cards": []}')
        action(server)
        (card,) = json.loads(server.latest.card)["cards"]
        assert "Corrected" in card["summary"] or "withdrawn" in card["summary"]


def test_what_cannot_be_published_is_told_and_keeps_nothing_else_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    original = server.amending._signed_set
    failing = [True]

    def fails_once(*arguments: Any) -> ReportSet:
        if failing.pop() if failing else False:
            msg = "the statement cannot be written"
            raise InvalidMessage(msg)
        return original(*arguments)

    monkeypatch.setattr(server.amending, "_signed_set", fails_once)
    for signed in (CONFIRMED, CORRECTED):
        server.amendments.ask_sign_off(SignOffAsked("", RESULT, signed, "viewer"), audit_events=[])
    assert server.amending.look() == 1
    assert ("sign-off", "A sign-off cannot be published: the statement cannot be written") in (
        server.notes
    )
    assert server.amendments.sign_offs_asked() == []


def test_a_site_that_shows_no_location_any_more_publishes_none() -> None:
    server = Server()
    server.amending._site = example_site(DisplayMode.TRIAGE_ONLY)
    server.sign()
    assert server.latest.overlay_png is None
    assert set(server.latest.dicom) <= {"report.dcm", "root-result.dcm"}
    assert not fields(server.latest.oru, "OBX", 2).count("ED")
