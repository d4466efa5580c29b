"""What the EHR's administrator wrote down about the one app that it trusts."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class AppRegistration:
    """A confidential SMART client with asymmetric authentication, which is a CDS service too.

    Parameters
    ----------
    client_id
        Its name at the authorisation server.
    launch_url
        Where an EHR launch starts; the only address that a ``smart`` link may name.
    redirect_uris
        Where codes may be sent, compared exactly.
    jwks_url
        Where its public keys are.
    scopes
        The most that it may be granted.
    cds_base_url
        Its CDS service; ``/cds-services`` below it is discovery.
    """

    client_id: str
    launch_url: str
    redirect_uris: tuple[str, ...]
    jwks_url: str
    scopes: frozenset[str]
    cds_base_url: str

    def origins(self) -> tuple[str, ...]:
        """Give the origins that its pages come from."""
        urls = (self.launch_url, *self.redirect_uris)
        parts = [urlsplit(url) for url in urls]
        return tuple(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))
