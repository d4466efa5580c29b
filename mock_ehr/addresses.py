"""The addresses of the EHR's endpoints, all below one base."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is.

    Parameters
    ----------
    base
        Scheme, host and port; also the issuer of every token.
    """

    base: str

    @property
    def fhir(self) -> str:
        """The FHIR endpoint: ``iss`` of a launch and ``aud`` of an authorisation request."""
        return f"{self.base}/fhir"

    @property
    def authorize(self) -> str:
        """The authorisation endpoint."""
        return f"{self.base}/authorize"

    @property
    def token(self) -> str:
        """The token endpoint: ``aud`` of a client assertion."""
        return f"{self.base}/token"

    @property
    def introspect(self) -> str:
        """The introspection endpoint."""
        return f"{self.base}/introspect"

    @property
    def jwks(self) -> str:
        """The keys that sign id tokens."""
        return f"{self.base}/jwks.json"

    @property
    def cds_jwks(self) -> str:
        """The keys that sign the tokens of the CDS client."""
        return f"{self.base}/cds-jwks.json"
