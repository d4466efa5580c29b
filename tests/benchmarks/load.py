"""Puts one server under load: a process of its own, so that it shares no lock with the measurer.

Reads a plan as JSON from standard input and writes what happened as JSON to standard output. Each
connection is kept and used again. In the open loop, requests start at moments drawn beforehand and
their time counts from those, so that a server that stalls does not hide it by slowing the load; in
the closed loop, each connection sends its next request when the last is answered.
"""

import gc
import json
import random
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any, BinaryIO

TIMEOUT_S = 30.0
FAILED = 0
"""Stands for a connection that broke in place of a status."""


class Kept:
    """One connection that is kept, and opened again if the server closed it meanwhile."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._answer: BinaryIO | None = None

    def open(self) -> None:
        """Connect, unless it is."""
        if self._socket is not None:
            readable, _, _ = select.select([self._socket], [], [], 0)
            if not readable:
                return
            self.close()
        self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = self._socket.makefile("rb")

    def close(self) -> None:
        """Disconnect."""
        for each in (self._answer, self._socket):
            if each is not None:
                with suppress(OSError):
                    each.close()
        self._socket = self._answer = None

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send one request and give status and body."""
        try:
            self.open()
            assert self._socket is not None
            assert self._answer is not None
            self._socket.sendall(request)
            return self._read(self._answer)
        except (OSError, ValueError, IndexError):
            self.close()
            return FAILED, b""

    def _read(self, answer: BinaryIO) -> tuple[int, bytes]:
        status = int(answer.readline().split()[1])
        length, kept = -1, True
        while (line := answer.readline().strip().lower()) != b"":
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                kept = value.strip() != b"close"
        if length < 0:
            msg = "the answer does not say how long it is"
            raise ValueError(msg)
        body = answer.read(length)
        if not kept:
            self.close()
        return status, body


class Load:
    """One run of a plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        requests = [_request(plan, token, body) for token, body in plan["requests"]]
        self._requests: Iterator[bytes] = iter(cycle(requests) if plan["again"] else requests)
        self._idle = [Kept(plan["host"], plan["port"]) for _ in range(plan["connections"])]
        self._lock = threading.Lock()
        self._milliseconds: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._cards: Counter[int] = Counter()
        self._moments: Iterator[float] | None = None
        self._start = 0.0
        self._last = 0.0

    def run(self) -> dict[str, Any]:
        """Send everything and tell how it went."""
        rate, seconds = self._plan["rate"], self._plan["seconds"]
        if rate:
            self._moments = iter(_poisson(rate, seconds))
        threads = [threading.Thread(target=self._work) for _ in self._idle]
        self._start = self._last = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "milliseconds": self._milliseconds,
            "seconds": self._last - self._start,
            "statuses": dict(self._statuses),
            "cards": dict(self._cards),
        }

    def _work(self) -> None:
        while True:
            with self._lock:
                request = next(self._requests, None)
                moment = next(self._moments, None) if self._moments else None
            now = time.perf_counter() - self._start
            if request is None or (self._moments and moment is None):
                return
            if moment is None and now >= self._plan["seconds"]:
                return
            if moment is not None and moment > now:
                time.sleep(moment - now)
            self._send(request, moment)

    def _send(self, request: bytes, moment: float | None) -> None:
        with self._lock:
            connection = self._idle.pop()
        begun = time.perf_counter() if moment is None else self._start + moment
        status, body = connection.send(request)
        ended = time.perf_counter()
        with self._lock:
            self._idle.append(connection)
            self._milliseconds.append((ended - begun) * 1000)
            self._statuses[status] += 1
            self._cards[body.count(b'"indicator"')] += 1
            self._last = max(self._last, ended)


def _poisson(rate: float, seconds: float) -> list[float]:
    """Draw the moments of requests that come independently of each other."""
    drawn = random.Random(1)
    moments: list[float] = []
    moment = drawn.expovariate(rate)
    while moment < seconds:
        moments.append(moment)
        moment += drawn.expovariate(rate)
    return moments


def _request(plan: dict[str, Any], token: str, body: str) -> bytes:
    content = body.encode()
    lines = [
        f"POST {plan['path']} HTTP/1.1",
        f"Host: {plan['host']}:{plan['port']}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


if __name__ == "__main__":
    load = Load(json.load(sys.stdin))
    gc.disable()
    json.dump(load.run(), sys.stdout)
