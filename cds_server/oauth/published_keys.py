"""Public keys of issuers, fetched from their registered addresses and kept for a while."""

import threading
import time
from dataclasses import dataclass, field

from cds_server.errors import KeysUnavailable, PeerUnavailable
from cds_server.outbound import Outbound

_OK = 200
_KEPT_S = 3600.0
_LEAST_BETWEEN_S = 30.0


@dataclass(slots=True)
class _Kept:
    content: bytes = b""
    fetched_at_s: float = float("-inf")
    asked_at_s: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class PublishedKeys:
    """Gives key sets; an address is asked at most every half minute.

    That holds however many tokens name an unknown key. When an address fails, what was fetched
    from it before stays good.

    Parameters
    ----------
    http
        How to ask.
    """

    def __init__(self, http: Outbound) -> None:
        self._http = http
        self._kept: dict[str, _Kept] = {}

    def keys(self, jwks_url: str, *, fresh: bool) -> bytes:
        """Give the key set of an address.

        Raises
        ------
        KeysUnavailable
            If it cannot be fetched and none is kept.
        """
        kept = self._kept.setdefault(jwks_url, _Kept())
        with kept.lock:
            now = time.monotonic()
            stale = fresh or now - kept.fetched_at_s > _KEPT_S
            if stale and now - kept.asked_at_s > _LEAST_BETWEEN_S:
                kept.asked_at_s = now
                try:
                    kept.content = self._fetched(jwks_url)
                    kept.fetched_at_s = now
                except KeysUnavailable:
                    if fresh or not kept.content:
                        raise
            if not kept.content:
                msg = "the keys were asked for a moment ago and could not be had"
                raise KeysUnavailable(msg)
            return kept.content

    def _fetched(self, jwks_url: str) -> bytes:
        """Fetch.

        Raises
        ------
        KeysUnavailable
            If there is no answer, or it is not 200.
        """
        try:
            answer = self._http.get(jwks_url, headers={"Accept": "application/json"})
        except PeerUnavailable as error:
            raise KeysUnavailable(str(error)) from error
        if answer.status != _OK:
            msg = f"the key server answered {answer.status}"
            raise KeysUnavailable(msg)
        return answer.content
