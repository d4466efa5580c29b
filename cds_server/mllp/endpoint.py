"""Where messages go to, or come in; and the rule that they do not travel in the clear."""

import ipaddress
from dataclasses import dataclass, field

from cds_server.errors import InvalidSettings
from cds_server.mllp.tls import TlsFiles

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LARGEST_PORT = 65_535


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver of messages.

    Parameters
    ----------
    host, port
        Name or address, and port.
    tls
        Certificates; ``None`` sends in the clear.
    clear_text
        Whether that is allowed beyond this machine: on a line that is private by other means.

    Raises
    ------
    InvalidSettings
        If messages would travel in the clear, or there is no such port.
    """

    host: str
    port: int
    tls: TlsFiles | None = None
    clear_text: bool = False

    def __post_init__(self) -> None:
        _check(self.host, self.port, protected=self.tls is not None or self.clear_text)
        if self.tls is not None:
            self.tls.client()

    def __str__(self) -> str:
        return _written(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where this server takes messages.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 takes a free one.
    tls
        Certificates; ``None`` listens in the clear.
    clear_text
        Whether that is allowed beyond this machine: on a line that is private by other means.
    allowed
        Networks from which somebody may connect; empty allows all.

    Raises
    ------
    InvalidSettings
        If messages would travel in the clear, if anybody could send one, or the address is none.
    """

    host: str = "127.0.0.1"
    port: int = 2575
    tls: TlsFiles | None = None
    clear_text: bool = False
    allowed: tuple[Network, ...] = field(default=())

    def __post_init__(self) -> None:
        _check(self.host, self.port, protected=self.tls is not None or self.clear_text)
        knows_clients = bool(self.tls and self.tls.ca) or bool(self.allowed)
        if not (is_loopback(self.host) or knows_clients):
            msg = (
                f"{self} can be reached from outside: say who may send, by the authority of their "
                "certificates (ca) or by their addresses"
            )
            raise InvalidSettings(msg)
        if self.tls is not None:
            self.tls.server()

    def admits(self, address: str) -> bool:
        """Say whether somebody at an address may connect."""
        return not self.allowed or any(
            ipaddress.ip_address(address) in network for network in self.allowed
        )

    def __str__(self) -> str:
        return _written(self.host, self.port)


def _check(host: str, port: int, *, protected: bool) -> None:
    """Refuse what cannot be meant.

    Raises
    ------
    InvalidSettings
        If there is no such port, or messages would travel in the clear.
    """
    try:
        host.encode("idna")  # as the resolver will: labels of 1 to 63 characters
    except UnicodeError:
        host = ""
    if not host or not 0 <= port <= _LARGEST_PORT:
        msg = f"{host}:{port} is no address of a machine and a port"
        raise InvalidSettings(msg)
    if not (protected or is_loopback(host)):
        msg = (
            f"{_written(host, port)} is beyond this machine, and messages would travel in the "
            "clear: use TLS, or say clear_text for a line that is private by other means"
        )
        raise InvalidSettings(msg)


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
