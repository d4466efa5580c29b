"""What the server needs of HTTP when it is the one that asks: a port with one hardened adapter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What another server answered.

    Parameters
    ----------
    status
        HTTP status; redirects are never followed, so it may be a 3xx.
    headers
        Names in lower case.
    content
        The whole body, within the limit.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class Outbound(Protocol):
    """Sends one request to one address, within limits of time and size."""

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Fetch.

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        ...

    def post_form(
        self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a form (``application/x-www-form-urlencoded``).

        Raises
        ------
        PeerUnavailable
            If there is no answer in time, or it is too large.
        """
        ...
