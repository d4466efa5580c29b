"""Who this server is for the DICOM service of Azure Health Data Services."""

import threading
from datetime import timedelta

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

from cds_server.errors import ArchiveUnreachable, InvalidSettings
from cds_server.ports import Clock

SCOPE = "https://dicom.healthcareapis.azure.com/.default"
_BEFORE_IT_EXPIRES = timedelta(minutes=5)


class AzurePacsCredentials:
    """A token of Microsoft Entra, kept until shortly before it expires; threads may share it.

    Parameters
    ----------
    url
        Address of the service, with the version of its interface: ``https://…/v2``.
    clock
        Tells when a token expires.
    credential
        Where tokens come from; ``None`` takes what the machine offers: environment, workload
        identity, managed identity, Azure CLI.

    Raises
    ------
    InvalidSettings
        If the address does not end in ``/v2``.
    """

    def __init__(
        self, url: str, *, clock: Clock, credential: TokenCredential | None = None
    ) -> None:
        if not url.rstrip("/").endswith("/v2"):
            msg = (
                "the address of the DICOM service of Azure ends in /v2, the version it is asked in"
            )
            raise InvalidSettings(msg)
        self._clock = clock
        self._credential = credential or DefaultAzureCredential()
        self._lock = threading.Lock()
        self._token: AccessToken | None = None

    def authorization(self) -> str:
        """Give the header.

        Raises
        ------
        ArchiveUnreachable
            If Azure gives no token. Its own words are not passed on.
        """
        with self._lock:
            soon = (self._clock.now() + _BEFORE_IT_EXPIRES).timestamp()
            if self._token is None or self._token.expires_on <= soon:
                self._token = self._fetched()
            return f"Bearer {self._token.token}"

    def refresh(self) -> None:
        """Forget the token."""
        with self._lock:
            self._token = None

    def _fetched(self) -> AccessToken:
        """Ask Azure.

        Raises
        ------
        ArchiveUnreachable
            If it gives none.
        """
        try:
            return self._credential.get_token(SCOPE)
        except AzureError as error:
            fault = type(error).__name__
        msg = f"Azure gives this server no token for the archive ({fault})"
        raise ArchiveUnreachable(msg)
