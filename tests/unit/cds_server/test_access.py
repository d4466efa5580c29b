"""Who may see what: every role with every study through every route, and a leaf for each look."""

import dataclasses
import json
import tempfile
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey
from serving import Serving
from standing_clock import StandingClock
from studies import STUDY_UID, chest_instance, chest_study
from studies import site as example_site

from cds_server.adapters.in_memory import InMemoryArchive
from cds_server.errors import Forbidden
from cds_server.network import Centre, Network, Role, TokenIssuer
from cds_server.oauth.access_tokens import AccessGrant
from cds_server.viewer import PatientScope, Viewer
from cds_server.worklist import Show, WorklistQuery
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.study import PersonName

OURS = {"Origin": "https://radcds.example.org"}
ISSUER, AUDIENCE = "https://login.example.org", "https://radcds.example.org/fhir"
KEY = ECKey.generate_key("P-384", {"kid": "ec"})
NETWORK = Network(
    centres=(
        Centre("north", "North Hospital", frozenset({"NORTH"})),
        Centre("south", "South Hospital", frozenset({"SOUTH"})),
    ),
    token_issuers=(
        TokenIssuer(ISSUER, AUDIENCE, jwks_url=f"{ISSUER}/jwks", centres=frozenset({"north"})),
    ),
)
FIRST = chest_study().patient
SECOND = dataclasses.replace(FIRST, patient_id="MRN 999", name=PersonName("TEST", "SECOND"))
NAMESAKE = dataclasses.replace(FIRST, issuer="Another Trust", name=PersonName("TEST", "NAMESAKE"))
ISSUED_BY = identifier_system("Example Trust", example_site())
OF_FIRST = PatientScope("Patient/p1", frozenset({(ISSUED_BY, "MRN 123456")}))
# Name of the study → its centre's institution and its patient.
STUDIES = {
    "north-first": ("NORTH", FIRST),
    "south-first": ("SOUTH", FIRST),
    "north-second": ("NORTH", SECOND),
    "nowhere-first": ("", FIRST),
    "north-namesake": ("NORTH", NAMESAKE),
}
VIEWERS: dict[str, tuple[Role, frozenset[str], PatientScope | None]] = {
    "radiologist": (Role.RADIOLOGIST, frozenset(), None),
    "radiologist of north": (Role.RADIOLOGIST, frozenset({"north"}), None),
    "radiologist with first": (Role.RADIOLOGIST, frozenset(), OF_FIRST),
    "radiologist of north with first": (Role.RADIOLOGIST, frozenset({"north"}), OF_FIRST),
    "clinician with first": (Role.CLINICIAN, frozenset(), OF_FIRST),
    "clinician of south with first": (Role.CLINICIAN, frozenset({"south"}), OF_FIRST),
    "clinician": (Role.CLINICIAN, frozenset(), None),
    "auditor": (Role.AUDITOR, frozenset(), None),
    "auditor of south": (Role.AUDITOR, frozenset({"south"}), None),
    "operator": (Role.OPERATOR, frozenset(), None),
    "program": (Role.SYSTEM, frozenset(), None),
}
# Which studies are theirs to see. Read it like a rule: it is written by hand, not computed.
#                                  north   south   north   nowhere north     queued
#                                  first   first   second  first   namesake
SEES = """
radiologist                      | yes   | yes   | yes   | yes   | yes     | yes
radiologist of north             | yes   | no    | yes   | no    | yes     | yes
radiologist with first           | yes   | yes   | no    | yes   | no      | no
radiologist of north with first  | yes   | no    | no    | no    | no      | no
clinician with first             | yes   | yes   | no    | yes   | no      | no
clinician of south with first    | no    | yes   | no    | no    | no      | no
clinician                        | no    | no    | no    | no    | no      | no
auditor                          | yes   | yes   | yes   | yes   | yes     | yes
auditor of south                 | no    | yes   | no    | no    | no      | yes
operator                         | yes   | yes   | yes   | yes   | yes     | yes
program                          | no    | no    | no    | no    | no      | no
"""
COLUMNS = (*STUDIES, "queued")
SCOPE = {
    (cells[0], study): cells[1 + number] == "yes"
    for line in SEES.strip().splitlines()
    if (cells := [cell.strip() for cell in line.split("|")])
    for number, study in enumerate(COLUMNS)
}
# What a role may do with a study that is theirs to see.
MAY = {
    "page": {Role.RADIOLOGIST, Role.CLINICIAN, Role.AUDITOR, Role.OPERATOR},
    "artefact": {Role.RADIOLOGIST, Role.CLINICIAN, Role.AUDITOR, Role.OPERATOR},
    "images": {Role.RADIOLOGIST, Role.CLINICIAN, Role.OPERATOR},
    "verdict": {Role.RADIOLOGIST, Role.OPERATOR},
    "break-glass": {Role.RADIOLOGIST, Role.CLINICIAN, Role.OPERATOR},
}
GOOD = {"page": 200, "artefact": 200, "images": 200, "verdict": 303, "break-glass": 303}


class Hospital(Serving):
    """Five studies of two centres, three patients, and one that is not read yet."""

    def __init__(self, folder: Path, **options: Any) -> None:
        archive = InMemoryArchive(
            [
                chest_instance(
                    StudyInstanceUID=f"{STUDY_UID}.{number}",
                    SOPInstanceUID=f"{STUDY_UID}.{number}.9",
                )
                for number in range(len(STUDIES))
            ]
        )
        super().__init__(folder, network=NETWORK, archive=archive, **options)
        self.ids = {
            name: self.add("urgent", number, institution=institution, patient=patient)
            for number, (name, (institution, patient)) in enumerate(STUDIES.items())
        }
        self.ids["queued"] = self.queue()
        self.ids["unknown"] = str(uuid.uuid4())

    def enter(self, who: str) -> tuple[FlaskClient, str]:
        """Sign somebody in, in a browser of their own."""
        role, centres, patient = VIEWERS[who]
        client = self.app.test_client()
        return client, self.sign_in(role, centres=tuple(centres), patient=patient, client=client)

    def ask(self, client: FlaskClient, base: str, route: str, study: str) -> Any:
        address = f"{base}/studies/{self.ids[study]}"
        if route == "page":
            return client.get(address)
        if route == "artefact":
            return client.get(f"{address}/artefacts/card.json")
        if route == "images":
            return client.get(f"{address}/images")
        form = {"agreement": "agree", "radpeer": "1", "reason": "covering", "comment": "in words"}
        return client.post(f"{address}/{route}", data=form, headers=OURS)

    def leaves(self, since: int = 0) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.trail.recorded[since:]]

    @property
    def length(self) -> int:
        return len(self.trail.recorded)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def own(tmp_path: Path) -> Hospital:
    """A hospital of one test, whose clock stands."""
    return Hospital(tmp_path, clock=StandingClock())


def purposes(leaf: Mapping[str, Any]) -> set[str]:
    given = [code for agent in leaf["agent"] for code in agent.get("purposeOfUse", [])]
    return {coding["code"] for each in given for coding in each["coding"]}


def shows_a_patient(answer: Any) -> bool:
    return any(word in answer.text for word in ("PATIENT", "SECOND", "NAMESAKE", "MRN"))


def expected_status(who: str, route: str, study: str) -> int:
    role = VIEWERS[who][0]
    if role not in MAY[route]:
        return 403
    if study == "unknown":
        return 404
    if route == "break-glass":
        return GOOD[route]
    if not SCOPE[who, study]:
        return 403
    if study == "queued" and route in {"artefact", "images"}:
        return 404
    return GOOD[route]


@pytest.mark.parametrize("route", MAY)
@pytest.mark.parametrize("who", VIEWERS)
def test_each_role_reaches_its_own_studies_and_no_other(
    hospital: Hospital, who: str, route: str
) -> None:
    for study in (*COLUMNS, "unknown"):
        client, base = hospital.enter(who)
        before = hospital.length
        answer = hospital.ask(client, base, route, study)
        status = expected_status(who, route, study)
        assert answer.status_code == status, study
        leaves = hospital.leaves(before)
        outcomes = [leaf["outcome"] for leaf in leaves]
        if status == 403:
            assert not shows_a_patient(answer)
            assert outcomes in ([], ["8"])  # that none is missing is asked below
        elif status in {200, 303}:
            sees_trail = route == "page" and who.partition(" ")[0] in {"auditor", "operator"}
            assert outcomes == ["0"] * (2 if sees_trail else 1)
            assert all(STUDY_UID in json.dumps(leaf) for leaf in leaves)


@pytest.mark.parametrize("route", MAY)
@pytest.mark.parametrize("who", [who for who in VIEWERS if VIEWERS[who][0] is not Role.SYSTEM])
def test_a_refusal_of_a_study_leaves_one_leaf_that_says_so(
    hospital: Hospital, who: str, route: str
) -> None:
    for study in COLUMNS:
        role = VIEWERS[who][0]
        if role not in MAY[route] or expected_status(who, route, study) != 403:
            continue
        client, base = hospital.enter(who)
        before = hospital.length
        assert hospital.ask(client, base, route, study).status_code == 403
        (leaf,) = hospital.leaves(before)
        assert leaf["outcome"] == "8"
        assert leaf["outcomeDesc"].startswith("refused: ")
        assert "Practitioner/1" in json.dumps(leaf)
        assert "MRN" not in json.dumps(leaf)


@pytest.mark.parametrize(
    ("who", "route"),
    [("auditor", "images"), ("clinician with first", "verdict"), ("auditor", "break-glass")],
)
def test_a_refusal_of_a_role_leaves_one_leaf(own: Hospital, who: str, route: str) -> None:
    client, base = own.enter(who)
    before = own.length
    assert own.ask(client, base, route, "north-first").status_code == 403
    assert [leaf["outcome"] for leaf in own.leaves(before)] == ["8"]


@pytest.mark.parametrize("who", VIEWERS)
def test_the_worklist_shows_the_studies_that_are_theirs(hospital: Hospital, who: str) -> None:
    client, base = hospital.enter(who)
    for path in ("worklist?state=all", "worklist/lines?state=all"):
        before = hospital.length
        answer = client.get(f"{base}/{path}")
        refused = who in {"clinician", "program"}
        assert answer.status_code == (403 if refused else 200)
        shown = {study for study in COLUMNS if hospital.ids[study] in answer.text}
        assert shown == {study for study in COLUMNS if not refused and SCOPE[who, study]}
        leaves = hospital.leaves(before)
        if who != "program":
            assert [leaf["outcome"] for leaf in leaves] == (["8"] if refused else ["0"])


@pytest.mark.parametrize(("centre", "status"), [("north", 200), ("south", 403), ("odd", 400)])
def test_the_worklist_is_narrowed_to_a_centre_of_ones_own(
    hospital: Hospital, centre: str, status: int
) -> None:
    client, base = hospital.enter("radiologist of north")
    answer = client.get(f"{base}/worklist?centre={centre}")
    assert answer.status_code == status
    assert hospital.ids["south-first"] not in answer.text
    everyone, base = hospital.enter("radiologist")
    answer = everyone.get(f"{base}/worklist?state=all&centre=south")
    assert hospital.ids["north-first"] not in answer.text
    assert hospital.ids["south-first"] in answer.text


def test_the_gate_itself_narrows_a_worklist_whatever_is_asked(own: Hospital) -> None:
    """Nobody who asks may forget the centres: the gate does not."""
    looking = Viewer("u", "127.0.0.1", Role.RADIOLOGIST, centres=frozenset({"north"}))
    page = own.access.worklist(WorklistQuery(show=Show.ALL), looking)
    assert {entry.centre for entry in page.entries if entry.result} == {"north"}
    before = own.length
    for asked in ({"south"}, {"north", "south"}):
        with pytest.raises(Forbidden):
            own.access.worklist(WorklistQuery(centres=frozenset(asked)), looking)
    assert [leaf["outcome"] for leaf in own.leaves(before)] == ["8", "8"]


# --- Images


def test_an_image_is_served_only_after_its_study_was_opened_here(own: Hospital) -> None:
    client, base = own.enter("radiologist")
    image = f"{base}/studies/{own.ids['north-first']}/images/0"
    before = own.length
    assert client.get(image).status_code == 403
    (refusal,) = own.leaves(before)
    assert refusal["outcomeDesc"] == "refused: images that were not opened"
    assert STUDY_UID in json.dumps(refusal)
    assert own.ask(client, base, "images", "south-first").status_code == 200
    assert client.get(image).status_code == 403
    assert own.ask(client, base, "images", "north-first").status_code == 200
    before = own.length
    assert client.get(image).status_code == 200
    assert own.length == before
    other, other_base = own.enter("radiologist")
    stranger = f"{other_base}/studies/{own.ids['north-first']}/images/0"
    assert other.get(stranger).status_code == 403
    assert isinstance(own.clock, StandingClock)
    own.clock.time += timedelta(minutes=14, seconds=59)
    assert client.get(image).status_code == 200
    client.get(f"{base}/worklist")
    own.clock.time += timedelta(seconds=1)
    assert client.get(image).status_code == 403


def test_an_auditor_sees_the_trail_and_no_image(own: Hospital) -> None:
    client, base = own.enter("auditor")
    page = own.ask(client, base, "page", "north-first")
    assert "Who did what" in page.text
    assert "/images" not in page.text
    assert own.ask(client, base, "images", "north-first").status_code == 403
    assert client.get(f"{base}/studies/{own.ids['north-first']}/images/0").status_code == 403
    reader, base = own.enter("radiologist")
    assert "Who did what" not in own.ask(reader, base, "page", "north-first").text


# --- Breaking the glass


def test_breaking_the_glass_needs_a_reason_and_is_offered_with_the_refusal(own: Hospital) -> None:
    client, base = own.enter("clinician with first")
    refused = own.ask(client, base, "page", "north-second")
    assert refused.status_code == 403
    assert "break-glass" in refused.text
    address = f"{base}/studies/{own.ids['north-second']}/break-glass"
    before = own.length
    for form in ({}, {"reason": ""}, {"reason": "curious"}, {"comment": "I want to"}):
        assert client.post(address, data=form, headers=OURS).status_code == 400
    assert own.length == before
    assert own.ask(client, base, "page", "north-second").status_code == 403
    auditor, base = own.enter("auditor of south")
    assert "break-glass" not in own.ask(auditor, base, "page", "north-first").text


def test_the_glass_is_broken_for_one_study_one_hour_and_one_session(own: Hospital) -> None:
    client, base = own.enter("clinician with first")
    other, other_base = own.enter("clinician with first")
    before = own.length
    assert own.ask(client, base, "break-glass", "north-second").status_code == 303
    (leaf,) = own.leaves(before)
    assert leaf["subtype"][0]["code"] == "110127"
    assert purposes(leaf) == {"BTG"}
    assert leaf["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"
    said = {each["type"]: each["valueString"] for each in leaf["entity"][-1]["detail"]}
    assert said["reason"] == "covering"
    assert said["comment"] == "given"
    assert "in words" not in json.dumps(leaf)
    before = own.length
    for route in ("page", "images", "artefact"):
        assert own.ask(client, base, route, "north-second").status_code == 200
    assert [purposes(each) for each in own.leaves(before)] == [{"BTG"}] * 3
    before = own.length
    assert own.ask(client, base, "page", "north-first").status_code == 200
    assert purposes(own.leaves(before)[0]) == {"TREAT"}
    assert own.ask(client, base, "page", "north-namesake").status_code == 403
    assert own.ask(other, other_base, "page", "north-second").status_code == 403
    assert own.ids["north-second"] not in client.get(f"{base}/worklist").text
    assert isinstance(own.clock, StandingClock)
    for _ in range(5):
        own.clock.time += timedelta(minutes=11)
        assert own.ask(client, base, "page", "north-second").status_code == 200
    own.clock.time += timedelta(minutes=5)
    assert own.ask(client, base, "page", "north-second").status_code == 403


def test_signing_out_mends_the_glass(own: Hospital) -> None:
    client, base = own.enter("radiologist with first")
    own.ask(client, base, "break-glass", "north-second")
    assert own.ask(client, base, "page", "north-second").status_code == 200
    client.post(f"{base}/sign-out", headers=OURS)
    assert own.ask(client, base, "page", "north-second").status_code == 401
    again, base = own.enter("radiologist with first")
    assert own.ask(again, base, "page", "north-second").status_code == 403


def test_a_reader_of_another_centre_reads_under_broken_glass(own: Hospital) -> None:
    client, base = own.enter("radiologist of north")
    assert own.ask(client, base, "verdict", "south-first").status_code == 403
    assert own.ask(client, base, "break-glass", "south-first").status_code == 303
    before = own.length
    assert own.ask(client, base, "verdict", "south-first").status_code == 303
    assert purposes(own.leaves(before)[0]) == {"BTG"}


def test_without_an_audit_trail_the_glass_stays_whole(own: Hospital) -> None:
    client, base = own.enter("clinician with first")
    own.trail.broken = True
    assert own.ask(client, base, "break-glass", "north-second").status_code == 503
    own.trail.broken = False
    assert own.ask(client, base, "page", "north-second").status_code == 403


# --- No look without a leaf

STEPS = st.lists(
    st.tuples(
        st.sampled_from(sorted(VIEWERS)),
        st.sampled_from(["page", "images", "pixels", "artefact", "verdict", "break-glass", "list"]),
        st.sampled_from([*COLUMNS, "unknown"]),
    ),
    min_size=5,
    max_size=25,
)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS)
def test_there_are_as_many_leaves_as_looks(steps: list[tuple[str, str, str]]) -> None:
    """However people walk about: what shows a patient is recorded, and nothing else is."""
    with tempfile.TemporaryDirectory() as folder:
        hospital = Hospital(Path(folder))
        entered = {who: hospital.enter(who) for who in VIEWERS}
        opened: set[tuple[str, str]] = set()
        for who, route, study in steps:
            client, base = entered[who]
            before = hospital.length
            if route == "list":
                answer = client.get(f"{base}/worklist?state=all")
            elif route == "pixels":
                answer = client.get(f"{base}/studies/{hospital.ids[study]}/images/0")
            else:
                answer = hospital.ask(client, base, route, study)
            leaves = hospital.leaves(before)
            good = [leaf for leaf in leaves if leaf["outcome"] == "0"]
            if answer.status_code == 200 and route == "pixels":
                assert (who, study) in opened
                assert leaves == []
            elif answer.status_code in {200, 303}:
                trail = VIEWERS[who][0] in {Role.AUDITOR, Role.OPERATOR} and route == "page"
                assert len(good) == len(leaves) == (2 if trail else 1)
            else:
                assert not shows_a_patient(answer)
                assert len(leaves) <= 1
                # The images of a study that is not there were asked for, by somebody who may.
                assert not good or (route, study) == ("images", "queued")
            if route == "images" and answer.status_code == 200:
                opened.add((who, study))


# --- Programs: FHIR by token


class Granting:
    """Gives the grant that a test names."""

    def __init__(self) -> None:
        self.grants: dict[str, AccessGrant] = {}

    def check(self, token: str) -> AccessGrant | None:
        return self.grants.get(token)

    def grant(
        self, scopes: str, *, centres: frozenset[str] = frozenset(), patient: str | None = None
    ) -> dict[str, str]:
        name = f"token-{len(self.grants)}"
        self.grants[name] = AccessGrant(
            ISSUER, "program", "program", frozenset(scopes.split()), patient, None, centres
        )
        return {"Authorization": f"Bearer {name}"}


@pytest.fixture(scope="module")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A hospital whose results stand in one database, as in earnest."""
    return Hospital(tmp_path_factory.mktemp("fhir"))


@pytest.fixture
def granting(fhir: Hospital, monkeypatch: pytest.MonkeyPatch) -> Granting:
    made = Granting()
    monkeypatch.setattr(
        "cds_server.oauth.access_tokens.AccessTokens.check", lambda _, token: made.check(token)
    )
    assert fhir.ids
    return made


def reports(hospital: Hospital) -> dict[str, str]:
    """Give the id of the DiagnosticReport of each study."""
    bundle = {
        name: json.loads(hospital.store.artefact(identifier, "bundle.json"))
        for name, identifier in hospital.ids.items()
        if name in STUDIES
    }
    return {
        name: entry["resource"]["id"]
        for name, each in bundle.items()
        for entry in each["entry"]
        if entry["resource"]["resourceType"] == "DiagnosticReport"
    }


NORTH, SOUTH = frozenset({"north"}), frozenset({"south"})
READERS = [
    ("system/*.rs", frozenset(), None, set(STUDIES)),
    ("system/*.rs", NORTH, None, {"north-first", "north-second", "north-namesake"}),
    ("user/*.rs", SOUTH, None, {"south-first"}),
    ("system/DiagnosticReport.rs", NORTH | SOUTH, None, set(STUDIES) - {"nowhere-first"}),
    # Whom its issuer calls a patient is nobody here.
    ("patient/*.rs", NORTH, f"{ISSUED_BY}|MRN 123456", set()),
    ("patient/*.rs", NORTH, "MRN 123456", set()),
]


@pytest.mark.parametrize(("scopes", "centres", "patient", "expected"), READERS)
def test_a_program_reads_what_its_token_reaches(
    fhir: Hospital,
    granting: Granting,
    scopes: str,
    centres: frozenset[str],
    patient: str | None,
    expected: set[str],
) -> None:
    headers = granting.grant(scopes, centres=centres, patient=patient)
    read = set()
    for study, identifier in reports(fhir).items():
        before = fhir.length
        answer = fhir.client.get(f"/fhir/DiagnosticReport/{identifier}", headers=headers)
        (leaf,) = fhir.leaves(before)
        if answer.status_code == 200:
            read.add(study)
            assert leaf["outcome"] == "0"
        else:
            assert answer.status_code == 403
            assert answer.json["resourceType"] == "OperationOutcome"
            assert answer.json["issue"][0]["code"] == "forbidden"
            assert "MRN" not in answer.text
            assert leaf["outcome"] == "8"
    assert read == expected


def test_a_program_without_the_scope_is_refused(fhir: Hospital, granting: Granting) -> None:
    identifier = reports(fhir)["north-first"]
    one, many = f"/fhir/DiagnosticReport/{identifier}", "/fhir/DiagnosticReport"
    wanted: dict[str, tuple[int, int]] = {
        "system/DiagnosticReport.rs": (200, 200),
        "system/DiagnosticReport.r": (200, 403),
        "system/DiagnosticReport.s": (403, 200),
        "system/DiagnosticReport.read": (200, 200),
        "system/DiagnosticReport.cud": (403, 403),
        "system/Observation.rs": (403, 403),
        "system/DiagnosticReport.rs?status=final": (403, 403),
        "patient/DiagnosticReport.rs": (403, 403),
        "openid fhirUser launch": (403, 403),
        "": (403, 403),
    }
    for scopes, statuses in wanted.items():
        headers = granting.grant(scopes)
        answers = [fhir.client.get(path, headers=headers) for path in (one, many)]
        assert tuple(each.status_code for each in answers) == statuses, scopes
        for each in answers:
            assert each.content_type == "application/fhir+json"
            if each.status_code == 403:
                assert each.json["resourceType"] == "OperationOutcome"
        posted = fhir.client.post(f"{many}/_search", headers=headers)
        assert posted.status_code == statuses[1]


def test_a_token_that_is_good_for_nothing_opens_nothing(fhir: Hospital, granting: Granting) -> None:
    assert granting.grants == {}
    for header in ("", "Bearer wrong", "Bearer", "Basic abc", "Session abc"):
        answer = fhir.client.get("/fhir/DiagnosticReport", headers={"Authorization": header})
        assert (answer.status_code, answer.data) == (401, b"")


def test_a_session_of_a_person_opens_no_fhir(hospital: Hospital) -> None:
    client, _ = hospital.enter("radiologist")
    answer = client.get("/fhir/DiagnosticReport", headers={"Authorization": ""})
    assert answer.status_code == 401


def signed(**claims: Any) -> dict[str, str]:
    now = int(StandingClock().now().timestamp())
    body = {
        "iss": ISSUER,
        "sub": "program",
        "aud": AUDIENCE,
        "client_id": "program",
        "iat": now,
        "exp": now + 300,
        **claims,
    }
    head = {"alg": "ES384", "kid": "ec", "typ": "at+jwt"}
    token = jwt.encode(head, body, KEY, algorithms=["ES384"], default_type=None)
    return {"Authorization": f"Bearer {token}"}


def test_the_centres_of_the_issuer_bound_a_token_whatever_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital(tmp_path, clock=StandingClock())
    published = json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()
    monkeypatch.setattr(
        "cds_server.adapters.https_key_source.HttpsKeySource.keys",
        lambda *_, **__: published,
    )
    headers = signed(scope="system/*.rs", centres=["south"], patient="p1")
    statuses = {
        study: hospital.client.get(f"/fhir/DiagnosticReport/{each}", headers=headers).status_code
        for study, each in reports(hospital).items()
    }
    assert {study for study, status in statuses.items() if status == 200} == {
        study for study, (institution, _) in STUDIES.items() if institution == "NORTH"
    }
    # A bare logical id of another server names nobody here.
    headers = signed(scope="patient/*.rs", patient="p1")
    for each in reports(hospital).values():
        answer = hospital.client.get(f"/fhir/DiagnosticReport/{each}", headers=headers)
        assert answer.status_code == 403
