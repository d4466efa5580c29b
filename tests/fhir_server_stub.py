"""A FHIR server that is as strict as Azure Health Data Services, and as bad as a test asks for.

It takes transactions and batches, searches by identifier and reads, over real sockets. It keeps to
what that service does: 500 entries a Bundle, 415 for another media type, 401 for a token that it
does not know, 412 for another version than ``ifMatch`` names, 409 where two race, a transaction
that is stored whole or not at all, a version that stays where nothing changed, OperationOutcomes
that quote what was sent. Like HAPI it also refuses references to what is not there.

Whatever is put into ``faults`` spoils one answer each, in order; see ``strict_pacs``.
"""

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from strict_pacs import Answer, Fault, Seen, _Handler

JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"
_SENT_AS = f"{JSON}; charset=utf-8; fhirVersion=4.0"
_REQUIRED = {"Observation": ("status", "code"), "DiagnosticReport": ("status", "code")}


@dataclass
class Stored:
    """A resource, with each of its versions; the last one ``None`` where it was deleted."""

    versions: list[dict[str, Any] | None] = field(default_factory=list)

    @property
    def current(self) -> dict[str, Any] | None:
        return self.versions[-1]


class Refused(Exception):
    """An entry or request is refused."""

    def __init__(self, status: int, code: str, diagnostics: str = "", where: str = "") -> None:
        self.status = status
        self.outcome = outcome(code, diagnostics, where)


def outcome(code: str, diagnostics: str = "", where: str = "") -> dict[str, Any]:
    """Make an OperationOutcome with one error, which quotes in its free text."""
    issue: dict[str, Any] = {"severity": "error", "code": code, "diagnostics": diagnostics}
    issue["details"] = {"coding": [{"code": "MSG_LOCAL_FAIL"}], "text": diagnostics}
    if where:
        issue["expression"] = [where]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def answer(status: int, value: object, **headers: str) -> Answer:
    """Give an answer in JSON."""
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    return Answer(status, json.dumps(value).encode(), f"{JSON}; charset=utf-8", named)


class FhirServerStub:
    """A running FHIR server.

    ``tokens`` are those that it lets in, ``None`` lets all in. ``post_search`` is the status of a
    search by POST, 200 where it can. ``finds_everybody`` makes it ignore the parameters of a
    search, ``page`` caps what one gives. ``reformats`` changes resources as it stores them.
    """

    def __init__(self, port: int, stopping: threading.Event) -> None:
        self.url = f"http://127.0.0.1:{port}/r4"
        self.stopping = stopping
        self.seen: list[Seen] = []
        self.stored: dict[str, Stored] = {}
        self.faults: deque[Fault] = deque()
        self.tokens: set[str] | None = None
        self.post_search = 200
        self.finds_everybody = False
        self.page = 1000
        self.reformats: Callable[[dict[str, Any]], dict[str, Any]] = lambda resource: resource
        self.before: Callable[[Seen], None] = lambda _: None
        self._lock = threading.Lock()

    # ── For tests ────────────────────────────────────────────────────────────────────────────────

    def put(self, resource: Mapping[str, Any]) -> None:
        """Store a resource as somebody else would."""
        self._put(self.stored, dict(resource), "")

    def delete(self, address: str) -> None:
        """Delete a resource as somebody else would."""
        self.stored[address].versions.append(None)

    def current(self, address: str) -> dict[str, Any]:
        """Give a resource that is there."""
        found = self.stored[address].current
        assert found is not None
        return found

    def addresses(self, resource_type: str) -> list[str]:
        """Give the addresses of all resources of a type."""
        return [each for each in self.stored if each.startswith(f"{resource_type}/")]

    def asked(self, path: str = "/r4") -> list[Seen]:
        """Give the requests for a path."""
        return [each for each in self.seen if each.path == path]

    def transactions(self) -> list[bytes]:
        """Give the transactions that arrived, as bytes."""
        return [each.body for each in self.asked() if b'"transaction"' in each.body]

    # ── Answers ──────────────────────────────────────────────────────────────────────────────────

    def answer(self, seen: Seen) -> Answer:
        """Answer as such a server does."""
        scheme, _, token = seen.headers.get("authorization", "").partition(" ")
        if self.tokens is not None and (scheme != "Bearer" or token not in self.tokens):
            return answer(
                401, outcome("login", "the token is not valid"), WWW_Authenticate="Bearer"
            )
        if seen.headers.get("accept") != JSON:
            return answer(406, outcome("not-supported"))
        try:
            with self._lock:
                return self._answered(seen)
        except Refused as refused:
            return answer(refused.status, refused.outcome)

    def _answered(self, seen: Seen) -> Answer:
        path = seen.path.removeprefix("/r4").strip("/")
        if seen.method == "POST" and not path:
            return self._bundle(seen)
        if seen.method == "POST" and path.endswith("/_search"):
            return self._post_search(seen, path.removesuffix("/_search"))
        if seen.method == "GET" and "/" in path:
            return answer(200, self._read(path))
        if seen.method == "GET":
            return answer(200, self._found(path, seen.query))
        raise Refused(405, "not-supported")

    def _post_search(self, seen: Seen, resource_type: str) -> Answer:
        if self.post_search != 200:
            raise Refused(self.post_search, "not-supported")
        if seen.headers.get("content-type") != FORM or seen.query:
            raise Refused(415, "not-supported")
        return answer(200, self._found(resource_type, parse_qs(seen.body.decode())))

    def _found(self, resource_type: str, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        parts = re.fullmatch(r"((?:\\.|[^|\\])*)\|((?:\\.|[^|\\])*)", query["identifier"][0])
        if not parts:
            raise Refused(400, "invalid", query["identifier"][0])
        wanted = tuple(re.sub(r"\\(.)", r"\1", each) for each in parts.groups())
        found = [
            each.current
            for address, each in self.stored.items()
            if address.startswith(f"{resource_type}/") and each.current
            if self.finds_everybody
            or wanted in {(i["system"], i["value"]) for i in each.current["identifier"]}
        ]
        count = min(self.page, int(query["_count"][0]))
        more = [{"relation": "next", "url": "http://192.0.2.1/next"}] if len(found) > count else []
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "link": [{"relation": "self", "url": self.url}, *more],
            "entry": [{"resource": each, "search": {"mode": "match"}} for each in found[:count]],
        }

    def _read(self, address: str) -> dict[str, Any]:
        stored = self.stored.get(address)
        if stored is None:
            raise Refused(404, "not-found", f"{address} is not known")
        if stored.current is None:
            raise Refused(410, "deleted")
        return stored.current

    def _bundle(self, seen: Seen) -> Answer:
        if seen.headers.get("content-type") != _SENT_AS:
            raise Refused(415, "not-supported")
        try:
            bundle = json.loads(seen.body)
        except ValueError:
            raise Refused(400, "structure", seen.body.decode()) from None
        if len(bundle["entry"]) > 500:
            raise Refused(400, "invalid", "The number of entries exceeded the limit of 500.")
        if bundle["type"] == "batch":
            return answer(200, self._batch(bundle))
        return answer(200, self._transaction(bundle))

    def _batch(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "type": "batch-response",
            "entry": [self._batch_entry(each["request"]["url"]) for each in bundle["entry"]],
        }

    def _batch_entry(self, address: str) -> dict[str, Any]:
        try:
            resource = self._read(address)
        except Refused as refused:
            return {"response": {"status": str(refused.status), "outcome": refused.outcome}}
        version = resource["meta"]["versionId"]
        return {"resource": resource, "response": {"status": "200", "etag": f'W/"{version}"'}}

    def _transaction(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        """Store every entry, or none."""
        after = {address: Stored(list(each.versions)) for address, each in self.stored.items()}
        named = {each["request"]["url"] for each in bundle["entry"]}
        answered = []
        for number, entry in enumerate(bundle["entry"]):
            where = f"Bundle.entry[{number}].resource"
            resource, request = entry["resource"], entry["request"]
            if request["method"] != "PUT" or "ifNoneExist" in request:
                raise Refused(400, "not-supported", where=where)
            for name in _REQUIRED.get(resource["resourceType"], ()):
                if name not in resource:
                    raise Refused(422, "required", json.dumps(resource), f"{where}.{name}")
            for reference in _references(resource):
                if reference not in named and reference not in self.stored:
                    raise Refused(400, "processing", f"{reference} is not known", where)
            status = self._put(after, resource, request.get("ifMatch", ""))
            answered.append({"response": {"status": status}})
        self.stored = after
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answered}

    def _put(self, where: dict[str, Stored], resource: dict[str, Any], if_match: str) -> str:
        address = f"{resource['resourceType']}/{resource['id']}"
        stored = where.setdefault(address, Stored())
        if if_match and if_match != f'W/"{len(stored.versions)}"':
            raise Refused(412, "conflict", f"{address} has another version")
        meta = {"versionId": str(len(stored.versions) + 1), "lastUpdated": "2026-11-20T09:31:00Z"}
        kept = self.reformats(resource)
        kept = {**kept, "meta": {**resource.get("meta", {}), **meta}}
        if stored.versions and stored.current and _without(kept) == _without(stored.current):
            return "200"
        stored.versions.append(kept)
        return "201" if len(stored.versions) == 1 else "200"


def _without(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in resource.items() if name != "meta"}


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "reference" and isinstance(each, str):
                yield each
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


@contextmanager
def fhir_server_stub(port: int = 0) -> Iterator[FhirServerStub]:
    """Run a FHIR server on loopback, on a port of its own."""
    stopping = threading.Event()
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        stub = handler.pacs = FhirServerStub(server.server_address[1], stopping)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield stub
        finally:
            stopping.set()
            server.shutdown()
            thread.join()
