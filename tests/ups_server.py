"""A strict UPS-RS origin server, over real HTTP in a thread: it judges from outside.

It knows nothing of radcds. What breaks a rule of DICOM PS3.4 Annex CC or PS3.18 chapter 11 is
refused with the status and the Warning of the standard.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

JSON = "application/dicom+json"
Attributes = dict[str, Any]

# DICOM PS3.4 Table CC.1.1-2: from, to -> whether it is allowed, or the warning of a repeat.
LEGAL = {
    ("SCHEDULED", "IN PROGRESS"): "",
    ("IN PROGRESS", "COMPLETED"): "",
    ("IN PROGRESS", "CANCELED"): "",
    ("COMPLETED", "COMPLETED"): "The UPS is already in the requested state of COMPLETED.",
    ("CANCELED", "CANCELED"): "The UPS is already in the requested state of CANCELED.",
}
# DICOM PS3.4 Table CC.2.5-3, final state: R for both, P for COMPLETED, X for CANCELED.
FINAL = {
    "R": (
        ("ScheduledProcedureStepPriority",),
        ("ScheduledProcedureStepModificationDateTime",),
        ("ScheduledProcedureStepStartDateTime",),
        ("InputReadinessState",),
    ),
    "COMPLETED": tuple(
        ("UnifiedProcedureStepPerformedProcedureSequence", keyword)
        for keyword in (
            "PerformedStationNameCodeSequence",
            "PerformedProcedureStepStartDateTime",
            "PerformedProcedureStepEndDateTime",
            "PerformedWorkitemCodeSequence",
            "OutputInformationSequence",
        )
    ),
    "CANCELED": tuple(
        ("ProcedureStepProgressInformationSequence", keyword)
        for keyword in (
            "ProcedureStepCancellationDateTime",
            "ProcedureStepDiscontinuationReasonCodeSequence",
        )
    ),
}
# DICOM PS3.3 Table 8.8-1 and Table 10-3b, type 1.
ITEMS = {
    "PerformedStationNameCodeSequence": ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
    "PerformedWorkitemCodeSequence": ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
    "ProcedureStepDiscontinuationReasonCodeSequence": (
        "CodeValue",
        "CodingSchemeDesignator",
        "CodeMeaning",
    ),
    "OutputInformationSequence": (
        "TypeOfInstances",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "ReferencedSOPSequence",
        "WADORSRetrievalSequence",
    ),
    "ReferencedSOPSequence": ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
    "WADORSRetrievalSequence": ("RetrieveURL",),
}
CREATED = (
    "ProcedureStepState",
    "ScheduledProcedureStepPriority",
    "ScheduledProcedureStepStartDateTime",
    "InputReadinessState",
)
NEVER_UPDATED = ("SOPClassUID", "SOPInstanceUID", "ProcedureStepState")
RETURNED = (
    *CREATED,
    "SOPInstanceUID",
    "ScheduledStationNameCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "WorklistLabel",
)
INCONSISTENT = "The submitted request is inconsistent with the current state of the UPS Instance."


class Dialect(Enum):
    """Where an origin server looks for the Transaction UID of an update."""

    BARE_QUERY = "the first query parameter"
    NAMED = "transaction-uid"
    PAYLOAD = "the payload, and the requester in the path of a state change"


class Refused(Exception):
    def __init__(self, status: int, warning: str = "") -> None:
        super().__init__(warning)
        self.status = status
        self.warning = warning


def tag(keyword: str) -> str:
    number = tag_for_keyword(keyword)
    return f"{number:08X}" if number is not None else keyword


def values(attributes: Mapping[str, Any], keyword: str) -> list[Any]:
    return [v for v in attributes.get(tag(keyword), {}).get("Value", []) if v not in (None, "")]


def value(attributes: Mapping[str, Any], *path: str) -> Any:
    """Follow a path of keywords through the first items; ``None`` where it ends."""
    for keyword in path[:-1]:
        attributes = next(iter(values(attributes, keyword)), {})
    return next(iter(values(attributes, path[-1])), None)


@dataclass
class Worklist:
    """The workitems, with the rules.

    Parameters
    ----------
    marks_cancel_requests
        Whether a request to cancel what is in progress is noted in its progress information.
    ignores_keys
        Whether matching keys other than the state are ignored.
    """

    dialect: Dialect = Dialect.BARE_QUERY
    marks_cancel_requests: bool = False
    ignores_keys: bool = False
    longest_page: int = 100
    now: datetime = field(default_factory=lambda: datetime(2026, 11, 20, 9, 0, tzinfo=UTC))
    items: dict[str, Attributes] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    history: dict[str, list[str]] = field(default_factory=dict)
    progress_told: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def state(self, uid: str) -> str:
        return str(value(self.items[uid], "ProcedureStepState"))

    def create(self, uid: str, attributes: Attributes) -> None:
        if uid in self.items:
            raise Refused(409, "The Workitem already exists.")
        missing = [keyword for keyword in CREATED if not values(attributes, keyword)]
        if missing or value(attributes, "ProcedureStepState") != "SCHEDULED":
            raise Refused(400)
        self.items[uid] = {**attributes, tag("SOPInstanceUID"): {"vr": "UI", "Value": [uid]}}
        self.history[uid] = ["SCHEDULED"]
        self.progress_told[uid] = []
        self._touch(uid)

    def retrieve(self, uid: str) -> Attributes:
        if uid in self.gone:
            raise Refused(410)
        if uid not in self.items:
            raise Refused(404)
        return self.items[uid]

    def update(self, uid: str, changes: Attributes, transaction_uid: str) -> None:
        item = self.retrieve(uid)
        state = self.state(uid)
        if state == "SCHEDULED" and transaction_uid:
            raise Refused(409, "The target URI did not reference a claimed Workitem.")
        if state in {"COMPLETED", "CANCELED"}:
            raise Refused(409, INCONSISTENT)
        if state == "IN PROGRESS":
            self._check_claim(uid, transaction_uid)
        changes.pop(tag("TransactionUID"), None)
        check_changes(changes)
        item.update(changes)
        told = value(
            changes, "ProcedureStepProgressInformationSequence", "ProcedureStepProgressDescription"
        )
        if told:
            self.progress_told[uid].append(told)
        self._touch(uid)

    def change_state(self, uid: str, asked: Attributes) -> str:
        self.retrieve(uid)
        if set(asked) - {tag("TransactionUID"), tag("ProcedureStepState")}:
            raise Refused(400)
        transaction_uid = str(value(asked, "TransactionUID") or "")
        target = str(value(asked, "ProcedureStepState"))
        warning = LEGAL.get((self.state(uid), target))
        if warning is None:
            raise Refused(409, INCONSISTENT)
        if warning:
            return warning
        if target == "IN PROGRESS":
            if not transaction_uid:
                raise Refused(400, "The Transaction UID is missing.")
            self.claims[uid] = transaction_uid
        else:
            self._check_claim(uid, transaction_uid)
            check_final_state(self.items[uid], target)
        self._set_state(uid, target)
        return ""

    def request_cancel(self, uid: str, asked: Attributes) -> str:
        item = self.retrieve(uid)
        state = self.state(uid)
        if state == "CANCELED":
            return "The UPS is already in the requested state of CANCELED."
        if state == "COMPLETED":
            raise Refused(409, "The UPS is already COMPLETED.")
        if state == "IN PROGRESS" and not self.marks_cancel_requests:
            raise Refused(409, "The performer cannot be contacted.")
        shown = next(iter(values(item, "ProcedureStepProgressInformationSequence")), {})
        stamp = {tag("ProcedureStepCancellationDateTime"): {"vr": "DT", "Value": [self._stamp()]}}
        item[tag("ProcedureStepProgressInformationSequence")] = {
            "vr": "SQ",
            "Value": [{**shown, **asked, **stamp}],
        }
        if state == "SCHEDULED":
            self._set_state(uid, "IN PROGRESS")
            self._set_state(uid, "CANCELED")
        return ""

    def search(self, query: list[tuple[str, str]]) -> list[Attributes]:
        keys = dict(query)
        limit = min(int(keys.pop("limit", "100")), self.longest_page)
        offset = int(keys.pop("offset", "0"))
        for key in keys:
            if any(tag_for_keyword(keyword) is None for keyword in key.split(".")):
                raise Refused(400)
        if self.ignores_keys:
            keys = {"ProcedureStepState": keys["ProcedureStepState"]}
        found = [
            {tag(k): item[tag(k)] for k in RETURNED if tag(k) in item}
            for item in self.items.values()
            if all(value(item, *key.split(".")) == wanted for key, wanted in keys.items())
        ]
        return found[offset : offset + limit]

    def _check_claim(self, uid: str, transaction_uid: str) -> None:
        status = 409 if self.dialect is Dialect.PAYLOAD else 400
        if not transaction_uid:
            raise Refused(status, "The Transaction UID is missing.")
        if transaction_uid != self.claims[uid]:
            raise Refused(status, "The Transaction UID is incorrect.")

    def _set_state(self, uid: str, state: str) -> None:
        self.items[uid][tag("ProcedureStepState")] = {"vr": "CS", "Value": [state]}
        self.history[uid].append(state)
        self._touch(uid)

    def _touch(self, uid: str) -> None:
        stamp = {"vr": "DT", "Value": [self._stamp()]}
        self.items[uid][tag("ScheduledProcedureStepModificationDateTime")] = stamp

    def _stamp(self) -> str:
        return f"{self.now:%Y%m%d%H%M%S}+0000"


def check_changes(changes: Attributes) -> None:
    """Refuse what an update may not say, or says in a form that is not DICOM."""
    if any(tag(keyword) in changes for keyword in NEVER_UPDATED):
        raise Refused(400)
    if not all(element.get("Value") for element in changes.values()):
        raise Refused(400)
    check_dataset(Dataset.from_json(changes))


def check_dataset(dataset: Dataset) -> None:
    for element in dataset:
        if dictionary_VR(element.tag) != element.VR or element.is_empty:
            raise Refused(400, f"{element.keyword} is malformed")
        for item in element.value if element.VR == "SQ" else []:
            for keyword in ITEMS.get(element.keyword, ()):
                if keyword not in item or item[keyword].is_empty:
                    raise Refused(400, f"{element.keyword} lacks {keyword}")
            check_dataset(item)


def check_final_state(item: Attributes, target: str) -> None:
    for path in FINAL["R"] + FINAL[target]:
        if value(item, *path) is None:
            raise Refused(409, INCONSISTENT)


class Handler(BaseHTTPRequestHandler):
    """Routes of PS3.18 Table 11.1.1-1."""

    server: "Server"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, act: Any) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = urlsplit(self.path)
        self.parts = [unquote(part) for part in path.path.removeprefix("/dicom/").split("/")]
        self.query = path.query
        try:
            answered = self.server.interrupts(self.command, path.path)
            if answered is None:
                self._check_authorization()
                with self.server.worklist.lock:
                    answered = act(body)
        except Refused as refused:
            answered = refused.status, refused.warning, b""
        self._send(*answered)

    def _check_authorization(self) -> None:
        if self.headers.get("Authorization", "") != self.server.authorization:
            raise Refused(401)

    def _send(self, status: int, warning: str, content: bytes) -> None:
        self.server.log.append((self.command, self.path, status))
        self.send_response(status)
        if warning:
            self.send_header("Warning", f"299 worklist: {warning}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _payload(self, body: bytes) -> Attributes:
        if self.headers.get("Content-Type") != JSON:
            raise Refused(415)
        try:
            (dataset,) = json.loads(body)
        except (ValueError, TypeError):
            raise Refused(400) from None
        return dict(dataset)

    def _get(self, _body: bytes) -> tuple[int, str, bytes]:
        if self.headers.get("Accept") != JSON:
            raise Refused(406)
        match self.parts:
            case ["workitems"]:
                found = self.server.worklist.search(parse_qsl(self.query))
                return (200, "", json.dumps(found).encode()) if found else (204, "", b"")
            case ["workitems", uid]:
                return 200, "", json.dumps([self.server.worklist.retrieve(uid)]).encode()
        raise Refused(404)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        worklist = self.server.worklist
        match self.parts:
            case ["workitems"]:
                worklist.create(self.query, self._payload(body))
                return 201, "", b""
            case ["workitems", uid, "cancelrequest"]:
                warning = worklist.request_cancel(uid, self._payload(body) if body else {})
                return 202, warning, b""
            case ["workitems", uid]:
                changes = self._payload(body)
                worklist.update(uid, changes, self._transaction_uid(changes))
                return 200, "", b""
        raise Refused(404)

    def _put(self, body: bytes) -> tuple[int, str, bytes]:
        match self.parts, self.server.worklist.dialect:
            case (["workitems", uid, "state", requester], Dialect.PAYLOAD) if requester:
                pass
            case (["workitems", uid, "state"], Dialect.BARE_QUERY | Dialect.NAMED):
                pass
            case _:
                raise Refused(404)
        return 200, self.server.worklist.change_state(uid, self._payload(body)), b""

    def _transaction_uid(self, changes: Attributes) -> str:
        query = parse_qsl(self.query, keep_blank_values=True)
        match self.server.worklist.dialect:
            case Dialect.BARE_QUERY:
                return query[0][0] if query else ""
            case Dialect.NAMED:
                return dict(query).get("transaction-uid", "")
            case _:
                return str(value(changes, "TransactionUID") or "")


class Server(ThreadingHTTPServer):
    """The origin server; ``interrupts`` lets a test answer in its place."""

    daemon_threads = True

    def __init__(self, worklist: Worklist, authorization: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.worklist = worklist
        self.authorization = authorization
        self.log: list[tuple[str, str, int]] = []
        self.interrupts: Any = lambda _method, _path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom"


@contextmanager
def serving(worklist: Worklist, authorization: str = "") -> Iterator[Server]:
    """Serve a worklist on loopback until the test is over."""
    server = Server(worklist, authorization)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
