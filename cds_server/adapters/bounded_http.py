"""HTTP to another server, bounded: in time, in size, and in what it is told and tells."""

import time
import weakref
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx

from cds_server.adapters.timed_transport import Deadline, TimedTransport
from cds_server.errors import PeerUnavailable
from cds_server.outbound import Answer

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "radcds"}


class BoundedHttp:
    """Sends requests; a thread may use it while others do.

    Redirects are not followed, proxies and other settings of the environment are not used, TLS is
    verified, and no cookie is kept: one user's session with a server is never another's.
    Connections are closed when nobody holds the object any more.

    Parameters
    ----------
    transport
        How requests are sent; ``None`` is the network.
    timeout_s
        For one whole answer, from connecting to its last byte.
    largest_bytes
        Size of a body that is still read.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        *,
        timeout_s: float = 5.0,
        largest_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self._deadline = Deadline()
        self._timeout_s = timeout_s
        self._largest_bytes = largest_bytes
        self._http = httpx.Client(
            transport=transport or TimedTransport(self._deadline),
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            headers=_HEADERS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        weakref.finalize(self, self._http.close)

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch.

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        return self._sent("GET", url, headers)

    def post_form(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a form.

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        return self._sent("POST", url, headers, form=form)

    def send(self, method: str, url: str, content: bytes, *, headers: Mapping[str, str]) -> Answer:
        """Send any request, with the bytes of its body.

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        return self._sent(method, url, headers, content=content)

    def _sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Send a request and read the whole answer.

        Raises
        ------
        PeerUnavailable
            For whatever goes wrong. The cause is not chained: its text may quote what was sent.
        """
        self._deadline.start(self._timeout_s)
        until_s = time.monotonic() + self._timeout_s
        try:
            with self._http.stream(
                method, url, headers=headers, data=form, content=content
            ) as answer:
                return Answer(
                    answer.status_code, dict(answer.headers.items()), self._body(answer, until_s)
                )
        except _Excess as error:
            fault = str(error)
        except httpx.TimeoutException:
            fault = "does not answer in time"
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            fault = f"cannot be asked ({type(error).__name__})"
        msg = f"{_host(url)} {fault}"
        raise PeerUnavailable(msg)

    def _body(self, answer: httpx.Response, until_s: float) -> bytes:
        """Read a body.

        Raises
        ------
        _Excess
            If it is too large, too late, or compressed: what a few bytes unpack to has no bound.
        """
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            msg = "sends a compressed answer, which was not asked for"
            raise _Excess(msg)
        content = bytearray()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > self._largest_bytes:
                msg = "sends an answer that is too large"
                raise _Excess(msg)
            if time.monotonic() > until_s:
                msg = "does not answer in time"
                raise _Excess(msg)
        return bytes(content)


class _Excess(Exception):
    """An answer goes beyond what is read."""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "the server"
    except ValueError:
        return "the server"
