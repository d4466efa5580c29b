"""A PACS that is as strict as the DICOM service of Azure, and as bad as a test asks for.

It answers QIDO-RS, WADO-RS and STOW-RS over real sockets. It keeps to the conformance statement of
Azure Health Data Services (v2): what is not in its list of Accept headers is 406, at most 200 rows
a page, attributes only where they are asked for, 204 for nothing, 409 with reason 45070 for an
instance that is there already, 202 for a request of which a part was stored.

Whatever is put into ``faults`` spoils one answer each, in order.
"""

import gzip
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
from pydicom.errors import InvalidDicomError

JSON = "application/dicom+json"
DICOM = "application/dicom"
_ACCEPTED_FOR_AN_INSTANCE = {
    "*/*",
    *(
        f"{kind}{syntax}"
        for kind in ("application/dicom", 'multipart/related;type="application/dicom"')
        for syntax in (
            "",
            ";transfer-syntax=*",
            ";transfer-syntax=1.2.840.10008.1.2.1",
            ";transfer-syntax=1.2.840.10008.1.2.4.90",
        )
    ),
}
_LEVELS = {
    "studies": ("0020000D", {"StudyInstanceUID", "StudyDate", "PatientID", "PatientName"}),
    "instances": ("00080018", {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}),
}
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "StudyDate": "00080020",
    "PatientID": "00100020",
    "PatientName": "00100010",
}


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What would be answered."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A stored instance."""

    study: str
    series: str
    instance: str
    content: bytes
    metadata: Mapping[str, Any]


class Connection:
    """One request's way back: how faults write."""

    def __init__(self, handler: BaseHTTPRequestHandler, stopping: threading.Event) -> None:
        self._handler = handler
        self._stopping = stopping

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the PACS lives."""
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError

    def raw(self, content: bytes) -> None:
        """Write bytes as they are."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def head(self, answer: Answer, **more: str) -> None:
        """Write status and headers."""
        self._handler.send_response(answer.status)
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **answer.headers,
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        for name, value in headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def answer(self, answer: Answer) -> None:
        """Write everything, as it should be."""
        self.head(answer)
        self.raw(answer.body)

    def close(self) -> None:
        """End the connection after this answer."""
        self._handler.close_connection = True


Work = Callable[[], Answer]
"""Does what was asked, and gives what would be answered. A fault may leave it undone."""
Fault = Callable[[Connection, Work], None]


class StrictPacs:
    """A running PACS.

    ``tokens`` are those that it lets in, ``None`` lets all in. ``largest_page`` caps what a search
    gives; without ``knows_lists`` one for several UIDs finds none. ``forgets`` makes it say
    "stored" and keep nothing; ``keeps_old``, of what is there already, as some PACS do.
    ``before`` is called with each request.
    """

    def __init__(self, port: int, stopping: threading.Event) -> None:
        self.url = f"http://127.0.0.1:{port}/v2"
        self.stopping = stopping
        self.seen: list[Seen] = []
        self.kept: dict[str, Kept] = {}
        self.faults: deque[Fault] = deque()
        self.tokens: set[str] | None = None
        self.largest_page = 200
        self.ignores_offset = False
        self.searches_instances = True
        self.knows_lists = True
        self.single_part = False
        self.forgets = False
        self.keeps_old = False
        self.before: Callable[[Seen], None] = lambda _: None
        self.retrieve_url = "http://192.0.2.1/elsewhere"

    def add(self, content: bytes) -> Kept:
        """Put a file into the archive."""
        header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        kept = Kept(
            str(header.StudyInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.SOPInstanceUID),
            content,
            header.to_json_dict(suppress_invalid_tags=True),
        )
        self.kept[kept.instance] = kept
        return kept

    def asked(self, method: str) -> list[Seen]:
        """Give the requests of one method."""
        return [each for each in self.seen if each.method == method]

    # ── Answers ──────────────────────────────────────────────────────────────────────────────────

    def answer(self, seen: Seen) -> Answer:
        """Answer as the conformance statement has it."""
        scheme, _, token = seen.headers.get("authorization", "").partition(" ")
        if self.tokens is not None and (scheme != "Bearer" or token not in self.tokens):
            return Answer(401, b"", "text/plain", {"WWW-Authenticate": "Bearer"})
        path = seen.path.removeprefix("/v2/").split("/")
        if seen.path[:4] != "/v2/" or not all(re.fullmatch(r"[A-Za-z0-9.\-]+", x) for x in path):
            return Answer(404)
        named = dict(zip(path[::2], path[1::2], strict=False))
        if seen.method == "POST":
            return self._store(seen, named.get("studies", ""))
        return self._given(seen, path, named) if seen.method == "GET" else Answer(405)

    def _given(self, seen: Seen, path: Sequence[str], named: Mapping[str, str]) -> Answer:
        if path[-1] == "metadata":
            return self._metadata(seen, named)
        if len(path) % 2:
            return self._search(seen, path[-1], named)
        return self._instance(seen, named)

    def _matching(self, named: Mapping[str, str]) -> list[Kept]:
        return [
            each
            for each in self.kept.values()
            if named.get("studies", each.study) == each.study
            and named.get("series", each.series) == each.series
            and named.get("instances", each.instance) == each.instance
        ]

    def _search(self, seen: Seen, level: str, named: Mapping[str, str]) -> Answer:
        if not _accepts_json(seen):
            return Answer(406)
        if level not in _LEVELS or (level == "instances" and not self.searches_instances):
            return Answer(404)
        limit = int(seen.query.get("limit", ["100"])[0])
        if not 1 <= limit <= 200:
            return Answer(400)
        rows = self._rows(seen, level, self._matching(named))
        offset = 0 if self.ignores_offset else int(seen.query.get("offset", ["0"])[0])
        page = rows[offset : offset + min(limit, self.largest_page)]
        return Answer(200, json.dumps(page).encode()) if page else Answer(204, content_type="")

    def _rows(self, seen: Seen, level: str, found: Sequence[Kept]) -> list[dict[str, Any]]:
        tag, always = _LEVELS[level]
        wanted = always | set(seen.query.get("includefield", []))
        rows: dict[str, dict[str, Any]] = {}
        for each in found:
            study = [other for other in self.kept.values() if other.study == each.study]
            row = {
                _TAGS[name]: each.metadata[_TAGS[name]]
                for name in wanted
                if name in _TAGS and _TAGS[name] in each.metadata
            }
            if "ModalitiesInStudy" in wanted:
                modalities = sorted({other.metadata["00080060"]["Value"][0] for other in study})
                row["00080061"] = {"vr": "CS", "Value": modalities}
            if "NumberOfStudyRelatedInstances" in wanted:
                row["00201208"] = {"vr": "IS", "Value": [len(study)]}
            row["00081190"] = {"vr": "UR", "Value": [self.retrieve_url]}
            if _matches(each, self._query(seen)):
                rows.setdefault(each.metadata[tag]["Value"][0], row)
        return list(rows.values())

    def _query(self, seen: Seen) -> dict[str, Sequence[str]]:
        split = self.knows_lists
        return {
            name: value[0].split(",") if split and name.endswith("UID") else value
            for name, value in seen.query.items()
        }

    def _metadata(self, seen: Seen, named: Mapping[str, str]) -> Answer:
        if not _accepts_json(seen):
            return Answer(406)
        found = self._matching(named)
        bulk = {"7FE00010": {"vr": "OW", "BulkDataURI": f"{self.retrieve_url}/bulk"}}
        rows = [{**each.metadata, **bulk} for each in found]
        return Answer(200, json.dumps(rows).encode()) if found else Answer(404)

    def _instance(self, seen: Seen, named: Mapping[str, str]) -> Answer:
        accepted = {
            each.strip().replace(" ", "").rstrip(";")
            for each in seen.headers.get("accept", "").split(",")
        }
        if not accepted & _ACCEPTED_FOR_AN_INSTANCE:
            return Answer(406)
        found = self._matching(named)
        if set(named) != {"studies", "series", "instances"} or not found:
            return Answer(404)
        if self.single_part:
            return Answer(200, found[0].content, DICOM)
        return multipart([found[0].content])

    def _store(self, seen: Seen, study: str) -> Answer:
        if seen.headers.get("accept") != JSON:
            return Answer(406)
        parts = _parts(seen)
        if parts is None:
            return Answer(415)
        stored: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for part in parts:
            uid, reason = self._stored(part, study)
            item = {"00081155": {"vr": "UI", "Value": [uid]}} if uid else {}
            if reason:
                failed.append({**item, "00081197": {"vr": "US", "Value": [reason]}})
            else:
                retrieve = {"vr": "UR", "Value": [self.retrieve_url]}
                stored.append({**item, "00081190": retrieve})
        return stow_answer(stored, failed)

    def _stored(self, part: bytes, study: str) -> tuple[str, int]:
        try:
            header = pydicom.dcmread(BytesIO(part), stop_before_pixels=True)
            uid, of_study = str(header.SOPInstanceUID), str(header.StudyInstanceUID)
        except (InvalidDicomError, AttributeError):
            return "", 272
        if study and study != of_study:
            return uid, 43265
        if "PatientID" not in header:
            return uid, 43264
        if uid in self.kept:
            return uid, 0 if self.keeps_old else 45070
        if not self.forgets:
            self.add(part)
        return uid, 0


def multipart(parts: Sequence[bytes], boundary: str = "the-boundary") -> Answer:
    """Give an answer with these objects."""
    body = b"".join(
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), part)
        for part in parts
    )
    return Answer(
        200,
        body + f"--{boundary}--\r\n".encode(),
        f'multipart/related; type="application/dicom"; boundary={boundary}',
    )


def stow_answer(
    stored: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, Any]], status: int = 0
) -> Answer:
    """Give the answer to a store: 200 for all, 202 for some, 409 for none."""
    body: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": list(stored)}} if stored else {}
    if failed:
        body["00081198"] = {"vr": "SQ", "Value": list(failed)}
    return Answer(
        status or (200 if not failed else 202 if stored else 409), json.dumps(body).encode()
    )


def _accepts_json(seen: Seen) -> bool:
    accepted = {each.strip() for each in seen.headers.get("accept", "").split(",")}
    return bool(accepted & {JSON, "*/*"})


def _matches(kept: Kept, query: Mapping[str, Sequence[str]]) -> bool:
    for name in query.keys() & _TAGS.keys():
        value = str((kept.metadata.get(_TAGS[name], {}).get("Value") or [""])[0])
        first, to, last = query[name][0].partition("-")
        if to and not (first <= value and (not last or value <= last)):
            return False
        if not to and value not in query[name]:
            return False
    return True


def _parts(seen: Seen) -> list[bytes] | None:
    """Read a body strictly; ``None`` where it is not what it says."""
    content_type = seen.headers.get("content-type", "")
    found = re.fullmatch(
        r'multipart/related; type="application/dicom"; boundary=([0-9A-Za-z]{1,70})', content_type
    )
    if not found:
        return None
    delimiter = b"--" + found[1].encode()
    assert seen.body.endswith(b"\r\n" + delimiter + b"--\r\n"), "the body is cut off"
    assert seen.body.count(delimiter) == 2, "the boundary is in the body"
    inner = seen.body.removeprefix(delimiter).removesuffix(b"\r\n" + delimiter + b"--\r\n")
    headers, _, content = inner.partition(b"\r\n\r\n")
    assert headers == b"\r\nContent-Type: application/dicom"
    return [content]


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────


def fine(connection: Connection, work: Work) -> None:
    """Answer as it should be: for the place in a row of faults."""
    connection.answer(work())


def answers(
    status: int, body: bytes = b"", content_type: str = "text/plain", **headers: str
) -> Fault:
    """Answer something else, and do nothing."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda connection, _: connection.answer(Answer(status, body, content_type, named))


def instead(other: Answer) -> Fault:
    """Answer this, and do nothing."""
    return lambda connection, _: connection.answer(other)


def changed(change: Callable[[bytes], bytes]) -> Fault:
    """Answer with another body."""
    return lambda connection, work: connection.answer(_with_body(work(), change))


def _with_body(answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
    return replace(answer, body=change(answer.body))


def lost(connection: Connection, work: Work) -> None:
    """Do what was asked, and end without an answer."""
    work()
    connection.close()


def late(seconds: float) -> Fault:
    """Answer well, but not at once."""

    def fault(connection: Connection, work: Work) -> None:
        connection.pause(seconds)
        connection.answer(work())

    return fault


def dripping(every_s: float = 0.05) -> Fault:
    """Answer well, byte by byte."""

    def fault(connection: Connection, work: Work) -> None:
        answer = work()
        connection.head(answer)
        for byte in answer.body:
            connection.raw(bytes([byte]))
            connection.pause(every_s)

    return fault


def dripping_headers(every_s: float = 0.05) -> Fault:
    """Begin a header that does not end."""

    def fault(connection: Connection, _: Work) -> None:
        connection.raw(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            connection.raw(b"x")
            connection.pause(every_s)

    return fault


def truncated(keep: int) -> Fault:
    """Promise the whole body, and end after some of it."""

    def fault(connection: Connection, work: Work) -> None:
        answer = work()
        connection.head(answer)
        connection.raw(answer.body[:keep])
        connection.close()

    return fault


def flooding(content_type: str = JSON) -> Fault:
    """Send a body that does not end."""

    def fault(connection: Connection, _: Work) -> None:
        connection.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
            % content_type.encode()
        )
        while True:
            connection.raw(b"10000\r\n" + b" " * 65536 + b"\r\n")

    return fault


def packed(size: int) -> Fault:
    """Answer with a little that unpacks to a lot."""

    body = gzip.compress(b" " * size)

    def fault(connection: Connection, work: Work) -> None:
        connection.answer(replace(work(), body=body, headers={"Content-Encoding": "gzip"}))

    return fault


def with_header(name: str, value: str) -> Fault:
    """Answer well, with one header more."""
    return lambda connection, work: connection.answer(replace(work(), headers={name: value}))


def as_type(content_type: str) -> Fault:
    """Answer well, under another name."""
    return lambda connection, work: connection.answer(replace(work(), content_type=content_type))


# ── Serving ──────────────────────────────────────────────────────────────────────────────────────


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    pacs: StrictPacs

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        assert "Transfer-Encoding" not in self.headers, "a body without length"
        where = urlsplit(self.path)
        seen = Seen(
            self.command,
            where.path,
            parse_qs(where.query),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        pacs = self.pacs
        if pacs.stopping.is_set():
            raise ConnectionAbortedError
        pacs.seen.append(seen)
        pacs.before(seen)
        connection = Connection(self, pacs.stopping)
        fault = pacs.faults.popleft() if pacs.faults else fine
        try:
            fault(connection, lambda: pacs.answer(seen))
        except OSError:  # whoever asked is gone, or the test is over
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - as http.server has it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def strict_pacs(port: int = 0) -> Iterator[StrictPacs]:
    """Run a PACS on loopback, on a port of its own."""
    stopping = threading.Event()
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        pacs = handler.pacs = StrictPacs(server.server_address[1], stopping)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield pacs
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


@contextmanager
def thief() -> Iterator[tuple[str, list[bytes]]]:
    """Listen on another port; give the address, and whatever anybody sends there."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(1)
                heard.append(b"")
                try:
                    heard.append(peer.recv(65536))
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
                except OSError:
                    continue

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
