"""Each rule that CDS Hooks 2.0 has for a service, shown over HTTP between radcds and an EHR."""

import base64
import hmac
import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from beside_ehr import READER, Beside, beside_ehr
from flask import request
from markdown_it import MarkdownIt

from cds_server.config import Settings
from cds_server.errors import InvalidSettings
from cds_server.network import SystemActions
from cds_server.network_file import read_network
from mock_ehr.records import service_request, task

CONTEXT = {"userId": READER, "patientId": "p1"}
DRAFT = {
    "resourceType": "ServiceRequest",
    "id": "draft-0",
    "status": "draft",
    "intent": "order",
    "category": [{"coding": [{"system": "http://snomed.info/sct", "code": "363679005"}]}],
    "code": {"text": "Chest X-ray"},
    "subject": {"reference": "Patient/p1"},
}
DRAFTS = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": DRAFT}]}
CALLS: dict[str, dict[str, Any]] = {
    "patient-view": CONTEXT,
    "order-select": {**CONTEXT, "draftOrders": DRAFTS, "selections": ["ServiceRequest/draft-0"]},
    "order-sign": {**CONTEXT, "draftOrders": DRAFTS},
    "encounter-discharge": {**CONTEXT, "encounterId": "e1"},
    "appointment-book": {**CONTEXT, "appointments": DRAFTS},
    "org.radcds.imagingstudy-open": {**CONTEXT, "imagingStudyId": "s0"},
}
"""A context of each hook, with everything that the hooks library has in it."""
USABLE = {"userId", "patientId", "encounterId", "imagingStudyId"}
"""Context fields that a prefetch token may name: "Prefetch Token: Yes" in the hooks library."""
VIEW = "radcds-patient-view"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Beside]:
    with beside_ehr(tmp_path) as both:
        yield both
        assert both.ehr.violations == []


def discovered(both: Beside) -> list[dict[str, Any]]:
    services: list[dict[str, Any]] = both.ehr.discover().json()["services"]
    return services


def bearer(both: Beside, path: str) -> dict[str, str]:
    token = both.ehr.cds_token(f"{both.radcds.base_url}{path}")
    return {"Authorization": f"Bearer {token}"}


def posted(both: Beside, service_id: str, body: Any, **more: Any) -> httpx.Response:
    path = f"/cds-services/{service_id}"
    return httpx.post(
        f"{both.radcds.base_url}{path}", json=body, headers=bearer(both, path), timeout=30, **more
    )


def call(hook: str = "patient-view", **changes: Any) -> dict[str, Any]:
    made = {"hook": hook, "hookInstance": str(uuid.uuid4()), "context": CALLS[hook]}
    return {**made, **changes}


def resource(both: Beside, resource_id: str) -> dict[str, Any]:
    return next(each for each in both.records if each["id"] == resource_id)


# --- discovery


def test_discovery_is_at_its_address_and_describes_each_service(both: Beside) -> None:
    path = "/cds-services"
    answer = httpx.get(f"{both.radcds.base_url}{path}", headers=bearer(both, path))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"services"}
    services = answer.json()["services"]
    assert isinstance(services, list)
    assert {each["hook"] for each in services} == set(CALLS)
    for each in services:
        for name in ("hook", "title", "description", "id", "usageRequirements"):
            assert isinstance(each[name], str), name
            assert each[name], name
        assert isinstance(each["prefetch"], dict)


def test_each_service_answers_at_the_address_made_of_its_id(both: Beside) -> None:
    both.add("urgent")
    services = discovered(both)
    assert len(services) == len(CALLS)
    for each in services:
        answer = both.ehr.call_hook(each["id"], each["hook"], CALLS[each["hook"]])
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert isinstance(answer.json()["cards"], list)
    assert posted(both, "radcds-nothing", call()).status_code == 404


# --- prefetch


def templates(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Give hook, key and template of every service, for each consent of an EHR."""
    for consent in SystemActions:
        (folder / consent.name).mkdir()
        with beside_ehr(folder / consent.name, system_actions=consent) as both:
            for service in discovered(both):
                for key, template in service["prefetch"].items():
                    yield service["hook"], key, template


def test_a_prefetch_token_is_delimited_and_names_a_primitive_root_field_of_the_context(
    tmp_path: Path,
) -> None:
    token = re.compile(r"\{\{context\.(\w+)\}\}")
    found = list(templates(tmp_path))
    assert {key for _, key, _ in found} == {"patient", "studies", "study", "worklist", "orders"}
    for hook, _, template in found:
        assert token.search(template)
        assert not set(token.sub("", template)) & set("{}%")
        for name in token.findall(template):
            assert name in USABLE
            assert isinstance(CALLS[hook][name], str)


def test_a_prefetch_query_keeps_to_reads_and_plain_searches(tmp_path: Path) -> None:
    parameters = {"patient", "status", "_sort", "_count"}
    for _, _, template in templates(tmp_path):
        if "?" not in template:
            assert re.fullmatch(r"[A-Z][A-Za-z]+/\{\{context\.\w+\}\}", template)
            continue
        resource_type, query = template.split("?")
        assert re.fullmatch(r"[A-Z][A-Za-z]+", resource_type)
        assert {each.split("=")[0] for each in query.split("&")} <= parameters


def test_data_are_taken_from_the_key_that_discovery_names(both: Beside) -> None:
    both.add("urgent")
    view = next(each for each in discovered(both) if each["id"] == VIEW)
    (key,) = (k for k, template in view["prefetch"].items() if template.startswith("Patient/"))
    patient, rest = resource(both, "p1"), {"studies": None}
    named = posted(both, VIEW, call(prefetch={key: patient, **rest}))
    assert len(named.json()["cards"]) == 1
    elsewhere = posted(both, VIEW, call(prefetch={f"{key}2": patient, **rest}))
    assert elsewhere.status_code == 412


# --- the FHIR endpoint


def test_every_request_to_the_fhir_endpoint_carries_the_token_of_the_call(both: Beside) -> None:
    shown: list[tuple[str, str]] = []

    @both.ehr.app.before_request
    def watch() -> None:
        shown.append((request.path, request.headers.get("Authorization", "")))

    both.add("urgent")
    answer = both.ehr.call_hook(VIEW, "patient-view", CONTEXT, prefetch=False)
    assert len(answer.json()["cards"]) == 1
    asked = [(path, header) for path, header in shown if path.startswith("/fhir/")]
    assert [path for path, _ in asked] == ["/fhir/Patient/p1", "/fhir/ImagingStudy"]
    (token,) = both.ehr._office.ledger.access
    assert {header for _, header in asked} == {f"Bearer {token}"}


# --- JSON, and nothing empty


def empties(value: object, where: str = "") -> list[str]:
    if value in (None, "", [], {}):
        return [] if where == ".cards" else [where]
    inner = value.items() if isinstance(value, dict) else []
    numbered = enumerate(value) if isinstance(value, list) else []
    return [each for key, held in (*inner, *numbered) for each in empties(held, f"{where}.{key}")]


def test_no_element_is_null_or_empty(both: Beside) -> None:
    for number, name in enumerate(("urgent", "failed", "normal", "not_analysed")):
        both.add(name, number)
    both.serving.queue()
    services = discovered(both)
    answers = [both.ehr.call_hook(s["id"], s["hook"], CALLS[s["hook"]]).json() for s in services]
    assert sum(len(each["cards"]) for each in answers) > len(services)
    assert [empties(each) for each in (*services, *answers)] == [[]] * (2 * len(services))


def test_everything_is_json_also_what_is_refused(both: Beside) -> None:
    view = f"{both.radcds.base_url}/cds-services/{VIEW}"
    answers = [
        (posted(both, VIEW, call()), 412),
        (posted(both, VIEW, call(hook="order-sign")), 400),
        (posted(both, "radcds-nothing", call()), 404),
        (
            httpx.post(
                view, data={"hook": "patient-view"}, headers=bearer(both, urlsplit(view).path)
            ),
            400,
        ),
        (
            httpx.post(view, content="<call/>", headers=bearer(both, urlsplit(view).path)),
            400,
        ),
    ]
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/fhir+json"
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_no_advice_is_a_200_with_an_empty_list(both: Beside) -> None:
    answer = both.ehr.call_hook(VIEW, "patient-view", CONTEXT)
    assert (answer.status_code, answer.json()) == (200, {"cards": []})


# --- cards


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give the cards of every service for studies of every outcome, one of them waiting."""
    with beside_ehr(tmp_path_factory.mktemp("cards")) as both:
        for number, name in enumerate(("urgent", "flagged", "failed", "not_analysed")):
            both.add(name, number)
        found = answers(both)
    with beside_ehr(tmp_path_factory.mktemp("more")) as both:
        both.add("normal", 1)
        both.serving.queue(0)
        found += answers(both)
    assert {card["indicator"] for card in found} == {"info", "warning", "critical"}
    return found


def answers(both: Beside) -> list[dict[str, Any]]:
    called = [
        both.ehr.call_hook(each["id"], each["hook"], CALLS[each["hook"]]).json()["cards"]
        for each in discovered(both)
    ]
    return [card for each in called for card in each]


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_absolute(value: object) -> bool:
    parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def test_each_card_has_a_unique_identifier(both: Beside) -> None:
    for number, name in enumerate(("urgent", "flagged", "failed", "normal")):
        both.add(name, number)
    first, again = (
        [card["uuid"] for card in both.ehr.call_hook(VIEW, "patient-view", CONTEXT).json()["cards"]]
        for _ in range(2)
    )
    assert len(set(first)) == 4
    assert [str(uuid.UUID(each)) for each in first] == first
    assert again == first


def test_each_summary_is_a_text_of_less_than_140_characters(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert is_text(card["summary"])
        assert len(card["summary"]) < 140


@pytest.mark.parametrize(
    ("name", "indicator"),
    [
        ("urgent", "critical"),
        ("flagged", "warning"),
        ("failed", "warning"),
        ("normal", "info"),
        ("not_analysed", "info"),
    ],
)
def test_the_indicator_tells_the_urgency(both: Beside, name: str, indicator: str) -> None:
    both.add(name)
    (card,) = both.ehr.call_hook(VIEW, "patient-view", CONTEXT).json()["cards"]
    assert card["indicator"] == indicator


def test_the_source_has_a_label_and_a_coded_topic(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert is_text(card["source"]["label"])
        topic = card["source"]["topic"]
        assert set(topic) == {"system", "code", "display"}
        assert all(is_text(each) for each in topic.values())


def test_each_override_reason_is_a_coding_in_words(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert isinstance(card["overrideReasons"], list)
        assert card["overrideReasons"]
        for reason in card["overrideReasons"]:
            assert set(reason) == {"code", "system", "display"}
            assert all(is_text(each) for each in reason.values())


def test_each_link_has_label_address_and_type(cards: list[dict[str, Any]]) -> None:
    links = [link for card in cards for link in card.get("links", [])]
    assert {link["type"] for link in links} == {"absolute", "smart"}
    for card in cards:
        assert isinstance(card.get("links", []), list)
    for link in links:
        assert is_text(link["label"])
        assert is_absolute(link["url"])


def test_only_a_smart_link_carries_context_and_it_is_a_text(cards: list[dict[str, Any]]) -> None:
    for link in (link for card in cards for link in card.get("links", [])):
        assert ("appContext" in link) == (link["type"] == "smart")
        assert is_text(link.get("appContext", "none"))


def test_the_detail_is_github_flavoured_markdown(cards: list[dict[str, Any]]) -> None:
    read = MarkdownIt("commonmark").enable("table").render
    tables = [read(card["detail"]) for card in cards if "| finding |" in card["detail"]]
    assert tables
    for html in tables:
        assert "<th>finding</th>" in html
        assert "<strong>" in html
    for card in cards:
        words = re.sub(
            r"</?(?:p|br|strong|table|t[hrd]|thead|tbody|ul|li)>", "", read(card["detail"])
        )
        assert not re.search(r"[\\|<>&]|\*\*", words)


def test_no_card_holds_what_radcds_says_that_it_never_sends(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        assert not {"suggestions", "selectionBehavior"} & set(card)
        assert not {"url", "icon"} & set(card["source"])


def test_an_extension_is_an_object_under_the_name_of_its_guide(both: Beside) -> None:
    both.add("urgent")
    answer = both.ehr.call_hook("radcds-order-sign", "order-sign", CALLS["order-sign"]).json()
    assert [card["extension"] for card in answer["cards"]] == [
        {"davinci-crd.associated-resource": ["ServiceRequest/draft-0"]}
    ] * len(answer["cards"])


# --- actions


@pytest.mark.parametrize("consent", [SystemActions.SERVICE_REQUEST, SystemActions.TASK])
def test_an_action_is_an_update_that_holds_the_whole_resource(
    tmp_path: Path, consent: SystemActions
) -> None:
    order = service_request("r9", patient_id="p1", authored="2026-11-19", accession="ACC1001")
    work = task("t9", patient_id="p1", focus="ServiceRequest/r9", authored="2026-11-19")
    work["focus"]["identifier"] = order["identifier"][0]
    with beside_ehr(tmp_path, more=[order, work], system_actions=consent) as both:
        both.add("urgent")
        answer = both.ehr.call_hook(VIEW, "patient-view", CONTEXT).json()
        assert both.ehr.violations == []
    assert isinstance(answer["systemActions"], list)
    (action,) = answer["systemActions"]
    assert set(action) == {"type", "description", "resource"}
    assert action["type"] == "update"
    assert is_text(action["description"])
    whole = order if consent is SystemActions.SERVICE_REQUEST else work
    assert action["resource"] == {**whole, "priority": "stat"}


# --- who calls, and how


def forged(both: Beside, algorithm: str) -> str:
    """Make a token that is right in everything but its signature."""
    token = both.ehr.cds_token(f"{both.radcds.base_url}/cds-services/{VIEW}")
    key = both.ehr._office.keys.cds
    header = json.dumps({"alg": algorithm, "typ": "JWT", "kid": key.kid}).encode()
    content = f"{encoded(header)}.{token.split('.')[1]}"
    if algorithm == "none":
        return f"{content}."
    secret, digest = key.as_pem(private=False), f"sha{algorithm[2:]}"
    return f"{content}.{encoded(hmac.digest(secret, content.encode(), digest))}"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS384", "HS512"])
def test_a_token_without_an_asymmetric_signature_opens_nothing(
    both: Beside, algorithm: str
) -> None:
    both.add("urgent")
    answer = httpx.post(
        f"{both.radcds.base_url}/cds-services/{VIEW}",
        json=call(prefetch={"patient": resource(both, "p1"), "studies": None}),
        headers={"Authorization": f"Bearer {forged(both, algorithm)}"},
    )
    assert (answer.status_code, answer.content) == (401, b"")
    assert both.recorded() == []


def test_a_browser_of_a_listed_origin_may_call(tmp_path: Path) -> None:
    origin = {"Origin": "https://ehr.example.org"}
    with beside_ehr(tmp_path, cors_origins=("https://ehr.example.org",)) as both:
        url = f"{both.radcds.base_url}/cds-services/{VIEW}"
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        preflight = httpx.options(url, headers=origin | asked)
        assert preflight.is_success
        assert preflight.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
        assert {"authorization", "content-type"} <= set(allowed.split(", "))
        token = {"Authorization": f"Bearer {both.ehr.cds_token(url)}"}
        body = call(prefetch={"patient": None, "studies": None})
        answer = httpx.post(url, json=body, headers=origin | token)
        assert (answer.status_code, answer.json()) == (200, {"cards": []})
        assert answer.headers["Access-Control-Allow-Origin"] == origin["Origin"]
        stranger = httpx.options(url, headers=asked | {"Origin": "https://evil.example.org"})
        assert "Access-Control-Allow-Origin" not in stranger.headers


# --- TLS

EHR = """
[[ehr]]
name = "North EHR"
fhir_base_url = "{fhir}"
frame_ancestors = ["{frame}"]
cors_origins = ["{cors}"]
cds = {{ issuer = "https://ehr.example.org", jwks_url = "{jwks}" }}

[[token_issuer]]
issuer = "https://login.example.org"
audience = "https://radcds.example.org/fhir"
jwks_url = "{keys}"
introspection_url = "{introspection}"
token_endpoint = "{token}"
"""
ADDRESSES = ("fhir", "frame", "cors", "jwks", "keys", "introspection", "token")


def network_file(folder: Path, **changes: str) -> Path:
    path = folder / "network.toml"
    secure = dict.fromkeys(ADDRESSES, "https://ehr.example.org")
    path.write_text(EHR.format(**{**secure, **changes}))
    return path


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_address_of_another_server_is_https_or_on_this_machine(
    tmp_path: Path, name: str
) -> None:
    assert read_network(network_file(tmp_path)).ehrs
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert read_network(network_file(tmp_path, **{name: f"http://{host}:9000"})).ehrs
    for clear in (
        "http://ehr.example.org",
        "http://127.0.0.1.example.org",
        "ftp://ehr.example.org",
    ):
        with pytest.raises(InvalidSettings, match="https"):
            read_network(network_file(tmp_path, **{name: clear}))


def test_the_address_of_this_server_is_https_or_on_this_machine() -> None:
    assert Settings.from_mapping({"base_url": "https://radcds.example.org"})
    assert Settings.from_mapping({"base_url": "http://127.0.0.1:8080"})
    with pytest.raises(InvalidSettings, match="base_url"):
        Settings.from_mapping({"base_url": "http://radcds.example.org"})
