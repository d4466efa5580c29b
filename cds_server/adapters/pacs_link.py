"""The one way to a PACS: whoever asks, every request goes through here.

Between this server and a PACS stand the limits that neither requests nor a DICOMweb library keeps:
nothing outside the configured address is ever asked, whatever an answer or a library names; a whole
answer is bounded in time and in size; credentials are added last, for that one address.
"""

import ipaddress
import re
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO

import httpx

from cds_server.adapters.circuit_breaker import CircuitBreaker
from cds_server.adapters.pacs_credentials import Credentials
from cds_server.adapters.timed_transport import Deadline, TimedTransport
from cds_server.errors import ArchiveUnreachable, InvalidSettings
from cds_server.outbound import Answer

SLOWEST_BYTES_PER_S = 256 * 1024
"""A PACS that is slower than this is cut off, unless whoever asks says otherwise."""

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "radcds"}
_RESOURCE = re.compile(r"(/(?!\.+(/|$))[A-Za-z0-9.]+)+")
_NOT_WELL = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.FAILED_DEPENDENCY,  # Azure: its own storage is away
    HTTPStatus.TOO_MANY_REQUESTS,
}


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Parameters
    ----------
    method
        ``GET`` or ``POST``.
    url
        Whole address, below that of the service.
    headers
        What is told beside credentials.
    content
        Body, sent with its length.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


class AnswerTooLarge(Exception):
    """An answer goes beyond the size that is read."""


class PacsLink:
    """Asks one PACS; threads may share it.

    A wait for the next byte takes ``timeout_s`` at most. A whole exchange, from connecting to the
    last byte, may take ``timeout_s`` and one second more for every ``slowest_bytes_per_s`` bytes of
    bodies that were sent and received: who sends a byte now and then holds no thread. Looking up
    the host's name is bounded by the resolver alone.

    Redirects are not followed, proxies and other settings of the environment are not used, TLS is
    verified, no cookie is kept, and a compressed answer is refused: on common PACS the compression
    of pixels takes many times longer than the transfer, and what a few bytes unpack to has no
    bound. Nothing that the PACS writes gets into an error.

    Parameters
    ----------
    url
        Base address of the DICOMweb service.
    breaker
        Leaves the PACS alone while it is not well.
    credentials
        Who this server is for the PACS; ``None`` where it does not ask.
    timeout_s, slowest_bytes_per_s
        See above; the rate is that of sent and received bytes together.

    Raises
    ------
    InvalidSettings
        If the address is no plain address of a service, or credentials would travel in the clear.
    """

    def __init__(
        self,
        url: str,
        *,
        breaker: CircuitBreaker,
        credentials: Credentials | None = None,
        timeout_s: float = 20.0,
        slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S,
    ) -> None:
        self._base = _base(url, secret=credentials is not None)
        self._breaker = breaker
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._slowest_bytes_per_s = slowest_bytes_per_s
        self._deadline = Deadline()
        self._transport = TimedTransport(self._deadline)
        weakref.finalize(self, self._transport.close)

    @property
    def base_url(self) -> str:
        """Address of the service, without a slash at its end."""
        return str(self._base).rstrip("/")

    def exchange(self, question: Question, *, largest_bytes: int) -> Answer:
        """Ask, and read the whole answer.

        Raises
        ------
        ArchiveUnreachable
            If the address is not the service's, or there is no good answer: no connection, too
            late, broken off, compressed, a redirect, credentials refused, or the PACS is not well.
        AnswerTooLarge
            If the body is larger than ``largest_bytes``.
        """
        target = self._own(question.url)
        with self._breaker.attempt():
            answer = self._authorised(target, question, largest_bytes)
            _check_well(answer.status)
        return answer

    def _own(self, url: str) -> httpx.URL:
        """Read an address as it will be used, and refuse all that is not below the service's.

        Raises
        ------
        ArchiveUnreachable
            If it is any other.
        """
        try:
            target = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            target = httpx.URL()
        base, path = self._base, target.raw_path.partition(b"?")[0].decode("ascii")
        root = base.raw_path.decode("ascii").rstrip("/")
        if (
            (target.scheme, target.raw_host, target.port) != (base.scheme, base.raw_host, base.port)
            or target.userinfo
            or not path.startswith(f"{root}/")
            or not _RESOURCE.fullmatch(path.removeprefix(root))
        ):
            msg = "an address outside of the archive's own was not asked"
            raise ArchiveUnreachable(msg)
        return target

    def _authorised(self, target: httpx.URL, question: Question, largest_bytes: int) -> Answer:
        """Ask, once more where the credentials have changed meanwhile; never with refused ones."""
        credentials = self._credentials
        if credentials is None:
            return self._sent(target, question, {}, largest_bytes)
        used = credentials.authorization()
        answer = self._sent(target, question, {"Authorization": used}, largest_bytes)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            credentials.refresh()
            fresh = credentials.authorization()
            if fresh != used:
                answer = self._sent(target, question, {"Authorization": fresh}, largest_bytes)
        return answer

    def _sent(
        self, target: httpx.URL, question: Question, secret: Mapping[str, str], largest_bytes: int
    ) -> Answer:
        """Send one request.

        Raises
        ------
        ArchiveUnreachable
            For whatever goes wrong. The cause is not chained: its text may quote what was sent.
        """
        waits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        request = httpx.Request(
            question.method,
            target,
            headers={**question.headers, **_HEADERS, **secret},
            content=question.content,
            extensions={"timeout": waits},
        )
        self._deadline.start(self._timeout_s + len(question.content) / self._slowest_bytes_per_s)
        try:
            response = self._transport.handle_request(request)
            try:
                content = self._body(response, largest_bytes)
                return Answer(response.status_code, dict(response.headers.items()), content)
            finally:
                response.close()
        except httpx.TimeoutException:
            fault = "does not answer in time"
        except httpx.ConnectError as error:
            fault = _without_connection(error)
        except httpx.TransportError:
            fault = "broke off its answer"
        except _Compressed:
            fault = "sends a compressed answer, which was not asked for"
        msg = f"the archive {fault}"
        raise ArchiveUnreachable(msg)

    def _body(self, response: httpx.Response, largest_bytes: int) -> bytes:
        """Read a body; each byte gives time for more.

        Raises
        ------
        AnswerTooLarge
            If it is beyond the size that is read.
        _Compressed
            If it is not as it was asked for.
        """
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Compressed
        if int(response.headers.get("content-length", "0")) > largest_bytes:
            raise AnswerTooLarge
        kept = BytesIO()
        for chunk in response.iter_raw():
            kept.write(chunk)
            if kept.tell() > largest_bytes:
                raise AnswerTooLarge
            self._deadline.at_s += len(chunk) / self._slowest_bytes_per_s
        return kept.getvalue()


class _Compressed(Exception):
    """An answer is packed."""


def _check_well(status: int) -> None:
    """Say what a status means for whoever asks anything at all.

    Raises
    ------
    ArchiveUnreachable
        If it is not about what was asked, but about the PACS or about who asks.
    """
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        msg = f"the archive refuses the credentials of this server (status {status})"
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        msg = "the archive redirects elsewhere, which is not followed; set the address of the PACS"
    elif status in _NOT_WELL or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        msg = f"the archive failed with status {status}"
    else:
        return
    raise ArchiveUnreachable(msg)


def _without_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "shows a certificate that is not trusted (SSL_CERT_FILE names those that are)"
        cause = cause.__cause__ or cause.__context__
    return "does not answer (no connection)"


def _base(url: str, *, secret: bool) -> httpx.URL:
    """Read the address of a service.

    Raises
    ------
    InvalidSettings
        If it is no plain address, or a secret would travel in the clear.
    """
    try:
        base = httpx.URL(url.rstrip("/"))
        named = base.scheme in {"http", "https"} and base.host
        base.raw_host.decode("ascii").encode("idna")  # as the resolver will: labels of 1 to 63
    except (httpx.InvalidURL, UnicodeError, ValueError):
        base, named = httpx.URL(), False
    if not named or base.userinfo or base.query or base.fragment:
        msg = (
            "the address of a PACS is like https://pacs.example.org/dicom-web: without user, "
            "password, query or fragment"
        )
        raise InvalidSettings(msg)
    if secret and base.scheme == "http" and not _is_loopback(base.host):
        msg = "the credentials for a PACS are sent over https, or on this machine; never over http"
        raise InvalidSettings(msg)
    return base


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
