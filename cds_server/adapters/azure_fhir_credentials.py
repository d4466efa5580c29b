"""Who this server is for the FHIR service of Azure Health Data Services."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

from cds_server.adapters.fhir_credentials import KeptToken
from cds_server.errors import DestinationUnavailable, InvalidSettings
from cds_server.ports import Clock


class AzureFhirCredentials(KeptToken):
    """A token of Microsoft Entra for one FHIR service: its audience is the service's own address.

    Parameters
    ----------
    url
        Address of the service, such as ``https://WORKSPACE-NAME.fhir.azurehealthcareapis.com``.
    clock
        Tells when a token expires.
    credential
        Where tokens come from; ``None`` takes what the machine offers: environment, workload
        identity, managed identity, Azure CLI.

    Raises
    ------
    InvalidSettings
        If the address is not https, or has a path.
    """

    def __init__(
        self, url: str, *, clock: Clock, credential: TokenCredential | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.netloc or parts.path.strip("/"):
            msg = (
                "the address of the FHIR service of Azure is like "
                "https://WORKSPACE-NAME.fhir.azurehealthcareapis.com, without a path"
            )
            raise InvalidSettings(msg)
        super().__init__(self._fetched, clock)
        self._scope = f"https://{parts.netloc}/.default"
        self._credential = credential or DefaultAzureCredential()

    def _fetched(self) -> tuple[str, datetime]:
        """Ask Azure.

        Raises
        ------
        DestinationUnavailable
            If it gives none. Its own words are not passed on.
        """
        try:
            token = self._credential.get_token(self._scope)
        except AzureError as error:
            fault = type(error).__name__
        else:
            return token.token, datetime.fromtimestamp(token.expires_on, UTC)
        msg = f"Azure gives this server no token for the FHIR server ({fault})"
        raise DestinationUnavailable(msg)
