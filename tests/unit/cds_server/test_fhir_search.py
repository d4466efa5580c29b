"""Searching ``/fhir``: pages that are whole for everyone who looks, and no 500 for any input."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from fhir.resources.R4B import get_fhir_model_class
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Serving
from sqlalchemy import delete
from studies import ISSUED, OUTCOMES, chest_study

from cds_server.adapters.sql_fhir_repository import SqlFhirRepository
from cds_server.adapters.sql_result_store import SqlResultStore
from cds_server.adapters.sql_schema import fhir_identifier, fhir_origin, fhir_resource, open_engine
from cds_server.fhir_access import FhirAccess
from cds_server.gate import Stores
from cds_server.network import Centre, Network, Role
from cds_server.oauth.access_tokens import AccessGrant, AccessTokens
from cds_server.ports import FhirPage, FhirQuery, StoredResult
from cds_server.viewer import PatientScope, Viewer
from cds_server.web.fhir_search import cursor
from cds_server.worklist import Placing
from fhir_mappers.report_context import ReportSet
from fhir_mappers.study import Patient, PersonName

NETWORK = Network(
    centres=(
        Centre("north", "North", frozenset({"North Hospital"})),
        Centre("south", "South", frozenset({"South Clinic"})),
    )
)
# The same number at two hospitals: two patients.
OF_A, OF_B = ("urn:oid:2.999.10", "1"), ("urn:oid:2.999.11", "1")
INSTITUTIONS = {"north": "North Hospital", "south": "South Clinic", "": "Elsewhere"}
RESULTS = {
    f"{centre or 'unclaimed'}-{letter}": (centre, patient)
    for centre in INSTITUTIONS
    for letter, patient in (("a", OF_A), ("b", OF_B))
}
AWAITED, UNHEARD_OF = "awaited", "unheard-of"
ORIGINS = st.sampled_from([*RESULTS, AWAITED, UNHEARD_OF, ""])
NOTHING = ReportSet(b"{}", b"", b"{}")


class SqlServing(Serving):
    """An application whose results stand in the database, as in earnest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, network=NETWORK)
        engine = open_engine(folder / "radcds.sqlite")
        self.engine = engine
        self.store: Any = SqlResultStore(engine, Placing(NETWORK))
        self.repository = SqlFhirRepository(engine)
        self.access.gate.stores = Stores(
            self.store,
            self.store,
            self.repository,
            self.feedback,
            self.session_store,
            self.amendments,
        )


def save(store: SqlResultStore, identifier: str, centre: str, patient: tuple[str, str]) -> None:
    who = Patient(patient[1], patient[0].removeprefix("urn:oid:"), PersonName("T"), "", "")
    study = chest_study(patient=who, institution=INSTITUTIONS[centre])
    result = StoredResult(identifier, study, OUTCOMES["normal"], ISSUED, {})
    store.notice(identifier, f"1.2.{len(identifier)}", ISSUED)
    store.save(result, NOTHING, audit_events=[], destinations=())


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> SqlServing:
    """Results of every centre and patient, one that is awaited, and no resource yet."""
    serving = SqlServing(tmp_path_factory.mktemp("fhir"))
    for identifier, (centre, patient) in RESULTS.items():
        save(serving.store, identifier, centre, patient)
    serving.store.notice(AWAITED, "1.2.3", ISSUED)
    return serving


def put(repository: SqlFhirRepository, resources: Mapping[str, str], kind: str) -> None:
    """Store resources, each of the result that it is mapped to."""
    for resource_id, origin in resources.items():
        resource: dict[str, Any] = {
            "resourceType": kind,
            "id": resource_id,
            "status": "final",
            "code": {"text": "Chest"},
        }
        if origin:
            resource["identifier"] = [
                {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{origin}"}
            ]
        request = {"method": "PUT", "url": f"{kind}/{resource_id}"}
        entry = [{"resource": resource, "request": request}]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
        repository.transaction(json.dumps(bundle).encode())


def clear(serving: SqlServing) -> None:
    with serving.engine.begin() as connection:
        for table in (fhir_resource, fhir_identifier, fhir_origin):
            connection.execute(delete(table))


def viewer(centres: frozenset[str], patient: tuple[str, str] | None) -> Viewer:
    bound = PatientScope("Patient/1", frozenset({patient})) if patient else None
    return Viewer("program", "127.0.0.1", Role.SYSTEM, centres=centres, patient=bound)


def is_visible(origin: str, centres: frozenset[str], patient: tuple[str, str] | None) -> bool:
    """Say it once more, in the words of the tests."""
    if not centres and patient is None:
        return True
    if origin == AWAITED:
        return patient is None
    if origin not in RESULTS:
        return False
    centre, of = RESULTS[origin]
    return (not centres or centre in centres) and patient in {None, of}


SCOPES = [
    (centres, patient)
    for centres in (frozenset(), {"north"}, {"south"}, {"north", "south"}, {"nowhere"})
    for patient in (None, OF_A, OF_B, ("urn:oid:2.999.12", "1"))
]
IDS = st.text("Aa0.-Zz9", min_size=1, max_size=6)


@settings(max_examples=120, deadline=None)
@given(
    resources=st.dictionaries(IDS, ORIGINS, max_size=14),
    others=st.dictionaries(IDS, ORIGINS, max_size=3),
    scope=st.sampled_from([(frozenset(c), p) for c, p in SCOPES]),
    size=st.integers(1, 6) | st.integers(1, 200),
)
def test_all_pages_give_each_visible_resource_once_and_in_order(
    shelves: SqlServing,
    resources: dict[str, str],
    others: dict[str, str],
    scope: tuple[frozenset[str], tuple[str, str] | None],
    size: int,
) -> None:
    clear(shelves)
    put(shelves.repository, resources, "DiagnosticReport")
    put(shelves.repository, others, "Observation")
    visible = sorted(each for each, origin in resources.items() if is_visible(origin, *scope))
    pages: list[FhirPage] = []
    after = ""
    while after or not pages:
        assert len(pages) <= len(visible), "the walk ends"
        query = FhirQuery("DiagnosticReport", count=size, after=after)
        pages.append(FhirAccess(shelves.access.gate).search(query, viewer(*scope)))
        after = pages[-1].last
    found = [json.loads(each)["id"] for page in pages for each in page.resources]
    assert found == visible
    assert {page.total for page in pages} == {len(visible)}
    assert all(len(page.resources) == size for page in pages[:-1])
    assert len(pages) == max(1, -(-len(visible) // size))
    number = FhirAccess(shelves.access.gate).search(
        FhirQuery("DiagnosticReport", count=0), viewer(*scope)
    )
    assert number == FhirPage([], len(visible))
    for each, origin in resources.items():
        content = shelves.repository.read("DiagnosticReport", each)
        read = FhirAccess(shelves.access.gate)._fhir_in_scope(
            "DiagnosticReport", content, viewer(*scope)
        )
        assert read == is_visible(origin, *scope), "a search shows what a read does"


# --- over HTTP


GRANTS = {
    "north": frozenset({"north"}),
    "nowhere": frozenset({"nowhere"}),
    "all": frozenset(),
}


def check(_: AccessTokens, token: str) -> AccessGrant | None:
    if token not in GRANTS:
        return None
    scopes = frozenset({"system/*.rs"})
    return AccessGrant("https://as.example.org", "p", "p", scopes, None, None, GRANTS[token])


@pytest.fixture
def served(shelves: SqlServing, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlServing]:
    """Seven reports: three of the north, four of others."""
    monkeypatch.setattr(AccessTokens, "check", check)
    clear(shelves)
    origins = ["north-a", "south-a", "north-b", "south-b", "unclaimed-a", "north-a", ""]
    put(
        shelves.repository,
        {f"r{number}": origin for number, origin in enumerate(origins)},
        "DiagnosticReport",
    )
    yield shelves
    clear(shelves)


def bundle(client: FlaskClient, address: str, token: str = "all") -> dict[str, Any]:  # noqa: S107
    answer = client.get(address, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    get_fhir_model_class("Bundle").model_validate_json(answer.data)
    read: dict[str, Any] = answer.json
    return read


def link(found: dict[str, Any], relation: str) -> str | None:
    urls = [each["url"] for each in found["link"] if each["relation"] == relation]
    assert len(urls) <= 1
    if not urls:
        return None
    assert urls[0].startswith("https://radcds.example.org/fhir/"), "absolute, as configured"
    return str(urls[0].removeprefix("https://radcds.example.org"))


def walk(client: FlaskClient, address: str | None, token: str) -> list[dict[str, Any]]:
    pages = []
    while address:
        pages.append(bundle(client, address, token))
        assert link(pages[-1], "self") == address
        address = link(pages[-1], "next")
    return pages


def ids(pages: list[dict[str, Any]]) -> list[str]:
    return [entry["resource"]["id"] for page in pages for entry in page.get("entry", [])]


@pytest.mark.parametrize(
    ("token", "size", "expected"),
    [
        ("north", 1, [["r0"], ["r2"], ["r5"]]),
        ("north", 2, [["r0", "r2"], ["r5"]]),
        ("north", 3, [["r0", "r2", "r5"]]),
        ("nowhere", 2, [[]]),
        ("all", 3, [["r0", "r1", "r2"], ["r3", "r4", "r5"], ["r6"]]),
    ],
)
def test_links_lead_from_page_to_page(
    served: SqlServing, token: str, size: int, expected: list[list[str]]
) -> None:
    address = f"/fhir/DiagnosticReport?status=final&_count={size}"
    pages = walk(served.client, address, token)
    assert [ids([page]) for page in pages] == expected
    assert {page["total"] for page in pages} == {sum(map(len, expected))}


def test_a_page_has_fifty_unless_said_and_the_number_alone_has_none(served: SqlServing) -> None:
    more = {f"x{number:03}": "north-a" for number in range(60)}
    put(served.repository, more, "DiagnosticReport")
    first = bundle(served.client, "/fhir/DiagnosticReport")
    assert len(first["entry"]) == 50
    counted = bundle(served.client, "/fhir/DiagnosticReport?_summary=count", "north")
    assert counted == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 63,
        "link": [
            {
                "relation": "self",
                "url": "https://radcds.example.org/fhir/DiagnosticReport?_summary=count",
            }
        ],
    }


def test_a_page_goes_on_where_it_was_whatever_came_or_went(served: SqlServing) -> None:
    first = bundle(served.client, "/fhir/DiagnosticReport?_count=2")
    put(served.repository, {"a-new-one": "north-a", "r9": "north-a"}, "DiagnosticReport")
    following = link(first, "next")
    assert following
    pages = walk(served.client, following, "all")
    assert ids(pages) == ["r2", "r3", "r4", "r5", "r6", "r9"]
    assert pages[0]["total"] == 9


def test_a_posted_search_goes_on_by_get(served: SqlServing) -> None:
    posted = served.client.post(
        "/fhir/DiagnosticReport/_search?_count=2",
        data={"_id": "r0,r2,r5,r1"},
        headers={"Authorization": "Bearer north"},
    )
    assert posted.status_code == 200
    assert posted.json["total"] == 3
    following = link(posted.json, "next")
    assert following
    assert ids(walk(served.client, following, "north")) == ["r5"]


def test_the_trail_says_which_page_was_shown(served: SqlServing) -> None:
    address = f"/fhir/DiagnosticReport?_count=2&_page={cursor('r1')}"
    bundle(served.client, address)
    entity = json.loads(served.trail.recorded[-1])["entity"]
    queries = [base64.b64decode(each["query"]).decode() for each in entity if "query" in each]
    assert queries == ["DiagnosticReport?_count=2&_after=r1"]


def test_a_link_tells_nothing_of_what_others_have(served: SqlServing) -> None:
    first = bundle(served.client, "/fhir/DiagnosticReport?_count=2", "north")
    following = link(first, "next")
    assert following
    (page,) = parse_qs(urlsplit(following).query)["_page"]
    assert page == cursor("r2"), "the last one that this viewer saw"


# --- what a value may say


SYSTEM = "urn:oid:2.999.7"


@pytest.fixture
def found_by(served: SqlServing) -> Any:
    """Give a search for the ids of reports, among some with identifiers and subjects."""
    described = {
        "p1": ("final", [(SYSTEM, "A,1")], ("urn:x", "7")),
        "p2": ("preliminary", [(SYSTEM, "A|2")], ("urn:y", "7")),
        "p3": ("preliminary", [("urn:other", "A|2"), ("", "B\\3")], ("", "8")),
        "p4": ("amended", [("urn:other", "😀")], ("urn:x", "9/1")),
    }
    clear(served)
    for own_id, (status, identifiers, (system, value)) in described.items():
        subject = {"identifier": {"system": system, "value": value}}
        if not system:
            del subject["identifier"]["system"]
        resource = {
            "resourceType": "DiagnosticReport",
            "id": own_id,
            "status": status,
            "code": {"text": "Chest"},
            "identifier": [{"system": s, "value": v} for s, v in identifiers],
            "subject": subject,
        }
        request = {"method": "PUT", "url": f"DiagnosticReport/{own_id}"}
        entry = [{"resource": resource, "request": request}]
        served.repository.transaction(
            json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entry}).encode()
        )

    def search(*pairs: tuple[str, str]) -> str:
        return " ".join(ids([bundle(served.client, f"/fhir/DiagnosticReport?{urlencode(pairs)}")]))

    return search


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("_id", "p1", "p1"),
        ("_id", "p4,p1,nothing,p1", "p1 p4"),
        ("status", "final,amended", "p1 p4"),
        ("status", "FINAL", ""),
        ("identifier", r"A\,1", "p1"),
        ("identifier", r"A\|2", "p2 p3"),
        ("identifier", rf"{SYSTEM}|A\|2", "p2"),
        ("identifier", rf"{SYSTEM}|A\|2,urn:other|😀", "p2 p4"),
        ("identifier", f"{SYSTEM}|", "p1 p2"),
        ("identifier", r"|B\\3", "p3"),
        ("identifier", r"|A\|2", ""),
        ("identifier", "😀", "p4"),
        ("patient", "7", "p1 p2"),
        ("patient", "urn:x|7", "p1"),
        ("patient", "urn:z|7", ""),
        ("patient", "|8", "p3"),
        ("patient", "urn:y|7,8", "p2 p3"),
        ("patient", "9/1", "p4"),
    ],
)
def test_alternatives_and_namespaces(found_by: Any, name: str, value: str, expected: str) -> None:
    assert found_by((name, value)) == expected


def test_every_parameter_and_every_repetition_has_to_match(found_by: Any) -> None:
    assert found_by(("status", "preliminary"), ("patient", "7,8")) == "p2 p3"
    assert found_by(("_id", "p1,p2,p3"), ("_id", "p2,p4")) == "p2"
    assert found_by(("_id", "p1"), ("_id", "p2")) == ""


# --- what is refused


LONG = "x" * 10_000
REFUSED = [
    "_count=-1",
    "_count=99999999999",
    "_count=abc",
    "_count=",
    "_count=1.0",
    "_count=%D9%A3",  # a digit, but not of ASCII
    "_count=%F0%9F%98%80",
    "_count=1&_count=2",
    "_count=1&_count=1",
    "_summary=true",
    "_summary=text",
    "_summary=count&_summary=count",
    "_page=",
    "_page=x",
    "_page=r1",
    "_page=%00",
    "_page=cjE%3D",  # padded
    "_page=cjF",  # other last bits
    "_page=Li4vLi4v",  # ../../
    "_page=8J-YgA",  # a character of four bytes
    "_page=%F0%9F%98%80",
    f"_page={LONG}",
    f"_page={cursor('x' * 65)}",
    f"_page={cursor('r1')}&_page={cursor('r1')}",
    f"_id={LONG}",
    f"identifier={LONG}",
    f"identifier={'x,' * 5000}x",
    f"{LONG}=1",
    "identifier=%00",
    "patient=1%00",
    "_id=r1%00,r2",
    "status=final%0A",
    "identifier=%FF",
    "identifier=%ED%A0%80",  # half a pair
    "\xff=1",
    "identifier=",
    "identifier",
    "patient=",
    "identifier=a,,b",
    "identifier=,",
    "identifier=|",
    "identifier=a|b|c",
    "identifier=a%5C",
    "identifier=a%5Cb",
    "_id=urn:x|r1",
    "status=urn:x|final",
    "patient=Patient/1",
    "patient=https://ehr.example.org/fhir/Patient/1",
    "patient=7,Patient/1",
    "patient=urn:x|",
    "patient:exact=1",
    "_sort=status",
    "_include=*",
    "_elements=id",
    "%F0%9F%98%80=1",
    "=1",
]


def is_outcome(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/fhir+json"
    outcome = get_fhir_model_class("OperationOutcome").model_validate_json(answer.data)
    assert outcome.issue[0].severity == "error"
    assert len(answer.data) < 4_000, "what was sent is not sent back at length"


@pytest.mark.parametrize("query", REFUSED, ids=lambda query: query[:30].encode("ascii", "replace"))
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_cannot_be_understood_is_refused(served: SqlServing, query: str, method: str) -> None:
    for kind in ("DiagnosticReport", "Binary"):
        if method == "GET":
            answer = served.client.get(f"/fhir/{kind}", query_string=query)
        else:
            answer = served.client.post(
                f"/fhir/{kind}/_search",
                data=query.encode("latin-1"),
                content_type="application/x-www-form-urlencoded",
            )
        is_outcome(answer, 400)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b'{"_id": "r1"}', 415),
        ("application/fhir+json", b"{}", 415),
        ("text/plain", b"_id=r1", 415),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n--b--", 415),
        ("", b"_id=r1", 415),
        ("application/x-www-form-urlencoded", b"\xff", 400),
        ("application/x-www-form-urlencoded", b"_id=" + b"x," * 40_000, 413),
        ("application/x-www-form-urlencoded; charset=utf-8", b"colour=red", 400),
    ],
)
def test_a_body_that_is_no_form_is_refused_and_never_ignored(
    served: SqlServing, content_type: str, body: bytes, status: int
) -> None:
    answer = served.client.post(
        "/fhir/DiagnosticReport/_search", data=body, content_type=content_type
    )
    is_outcome(answer, status)


def test_a_form_in_chunks_is_read(served: SqlServing) -> None:
    posted = served.client.post(
        "/fhir/DiagnosticReport/_search",
        data=b"_id=r1",
        content_type="application/x-www-form-urlencoded",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert ids([posted.json]) == ["r1"]


def test_a_form_that_is_cut_is_refused(served: SqlServing) -> None:
    answer = served.client.post(
        "/fhir/DiagnosticReport/_search",
        data=b"_id=r1",
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"CONTENT_LENGTH": "60"},
    )
    is_outcome(answer, 400)


@pytest.mark.parametrize("name", ["x" * 10_000, "%00", "r1%00", "%F0%9F%98%80", "%FF", "'--"])
def test_no_such_resource_under_a_strange_id(served: SqlServing, name: str) -> None:
    is_outcome(served.client.get(f"/fhir/DiagnosticReport/{name}"), 404)
    is_outcome(served.client.get(f"/fhir/{name}"), 404)
    is_outcome(served.client.get(f"/fhir/{name}/r1"), 404)


def test_a_count_of_none_is_the_number_alone_and_a_large_one_is_capped(served: SqlServing) -> None:
    everything = served.client.get("/fhir/DiagnosticReport?_count=9999999").json
    none = served.client.get("/fhir/DiagnosticReport?_count=0").json
    assert "entry" not in none
    assert none["total"] == everything["total"]
    assert len(everything.get("entry", [])) <= 200


def test_what_is_refused_leaves_no_long_line_in_the_trail(served: SqlServing) -> None:
    before = len(served.trail.recorded)
    for query in (f"identifier={LONG}", "_count=abc", "_page=x"):
        served.client.get("/fhir/DiagnosticReport", query_string=query)
    assert len(served.trail.recorded) == before


TEXTS = st.text(max_size=40) | st.text("\\,|$ab", max_size=8)


@settings(max_examples=300, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(["_id", "identifier", "patient", "status", "_count", "_page", "_sum"])
            | TEXTS,
            TEXTS,
        ),
        max_size=4,
    )
)
def test_whatever_is_asked_the_answer_is_a_bundle_or_a_reason(
    shelves: SqlServing, pairs: list[tuple[str, str]]
) -> None:
    query = urlencode([(n, v) for n, v in pairs], errors="surrogatepass")
    answer = shelves.client.get("/fhir/DiagnosticReport", query_string=query)
    if answer.status_code == 200:
        assert answer.json["type"] == "searchset"
        url = next(each["url"] for each in answer.json["link"] if each["relation"] == "self")
        assert parse_qsl(urlsplit(url).query) == [(n, v) for n, v in pairs if n != "_page"] + [
            (n, v) for n, v in pairs if n == "_page"
        ]
    else:
        is_outcome(answer, 400)
