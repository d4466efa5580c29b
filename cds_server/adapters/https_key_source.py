"""Public keys over HTTPS, kept for a while."""

import httpx

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.oauth.published_keys import PublishedKeys

_LARGEST_BYTES = 256 * 1024


class HttpsKeySource(PublishedKeys):
    """Fetches key sets from their registered addresses, and from no other.

    Redirects are not followed, answers are bounded in size and time, and an address is asked at
    most every half minute, however many tokens name an unknown key.

    Parameters
    ----------
    transport
        How requests are sent; ``None`` is the network.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(BoundedHttp(transport, largest_bytes=_LARGEST_BYTES))
