"""Any method and any body, within the bounds of ``bounded_http``."""

import time
from collections.abc import Mapping

import httpx

from cds_server.adapters.bounded_http import BoundedHttp, _Excess, _host
from cds_server.errors import PeerUnavailable
from cds_server.outbound import Answer


class BoundedSender(BoundedHttp):
    """Sends requests with a body; otherwise as ``BoundedHttp``."""

    def send(self, method: str, url: str, content: bytes, *, headers: Mapping[str, str]) -> Answer:
        """Send one request and read the whole answer.

        Raises
        ------
        PeerUnavailable
            For whatever goes wrong. The cause is not chained: its text may quote what was sent.
        """
        self._deadline.start(self._timeout_s)
        until_s = time.monotonic() + self._timeout_s
        try:
            with self._http.stream(method, url, headers=headers, content=content) as answer:
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
