"""What an EHR's authorisation server says of itself.

References
----------
SMART App Launch 2.2, ``.well-known/smart-configuration``; RFC 9207; OpenID Connect Discovery 1.0.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from cds_server.errors import PeerUnavailable
from cds_server.network import origin
from cds_server.oauth.bounded_json import json_object
from cds_server.oauth.smart_errors import LaunchRefused
from cds_server.outbound import Answer

_PLAIN = re.compile(r"[!-~]{1,2048}")  # nothing that a header or a log line could stumble over
_OK = 200
_TOO_MANY = 429
_SERVER_FAILED = 500


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """The parts of a SMART configuration that are used.

    Parameters
    ----------
    authorization_endpoint
        Where the user's browser is sent.
    token_endpoint
        Where codes and refresh tokens are exchanged; the audience of client assertions.
    issuer
        Of the authorisation server, which need not be the FHIR endpoint; ``None`` if not told.
    response_issuer_required
        Whether each response of the authorisation endpoint carries ``iss`` (RFC 9207).
    """

    authorization_endpoint: str
    token_endpoint: str
    issuer: str | None
    response_issuer_required: bool


def smart_configuration(answer: Answer, *, ehr: str, fhir_base_url: str) -> SmartConfiguration:
    """Read a SMART configuration.

    Parameters
    ----------
    answer
        Of ``.well-known/smart-configuration``.
    ehr
        Name of the EHR, for messages.
    fhir_base_url
        Against which relative addresses are resolved.

    Raises
    ------
    PeerUnavailable
        If the EHR failed: worth trying again.
    LaunchRefused
        If it cannot be read, or does not offer PKCE with S256 alone.
    """
    told = document(answer, ehr=ehr, what="SMART configuration")
    methods = told.get("code_challenge_methods_supported")
    if not isinstance(methods, list) or "S256" not in methods or "plain" in methods:
        msg = f"{ehr} does not protect sign-in as SMART requires (PKCE with S256, and not plain)."
        raise LaunchRefused(msg)
    issuer = told.get("issuer")
    return SmartConfiguration(
        endpoint(told, "authorization_endpoint", ehr=ehr, base=fhir_base_url),
        endpoint(told, "token_endpoint", ehr=ehr, base=fhir_base_url),
        issuer if isinstance(issuer, str) and issuer else None,
        told.get("authorization_response_iss_parameter_supported") is True,
    )


def document(answer: Answer, *, ehr: str, what: str) -> Mapping[str, object]:
    """Read a published JSON document.

    Raises
    ------
    PeerUnavailable
        If the server failed: worth trying again.
    LaunchRefused
        If there is none.
    """
    refuse_failure(answer, ehr)
    if answer.status != _OK:
        msg = f"The {what} of {ehr} cannot be had (status {answer.status})."
        raise LaunchRefused(msg)
    try:
        return json_object(answer.content)
    except ValueError as error:
        msg = f"The {what} of {ehr} cannot be read: it is no JSON object."
        raise LaunchRefused(msg) from error


def refuse_failure(answer: Answer, ehr: str) -> None:
    """Tell a failure from a refusal.

    Raises
    ------
    PeerUnavailable
        If the server failed, or has too much to do.
    """
    if answer.status >= _SERVER_FAILED or answer.status == _TOO_MANY:
        msg = f"{ehr} cannot answer now (status {answer.status})"
        raise PeerUnavailable(msg)


def endpoint(told: Mapping[str, object], name: str, *, ehr: str, base: str) -> str:
    """Give an address of a document; a relative one is resolved against ``base``.

    Raises
    ------
    LaunchRefused
        If it is missing or unsafe.
    """
    value = told.get(name)
    try:
        url = urljoin(f"{base}/", value) if isinstance(value, str) and value else ""
    except ValueError:
        url = ""
    if not is_safe(url):
        msg = f"{ehr} names no safe {name.replace('_', ' ')}."
        raise LaunchRefused(msg)
    return url


def is_safe(url: str) -> bool:
    """Say whether an address is https, or on this machine, and nothing but an address."""
    try:
        scheme, host, _ = origin(url)
        plain = _PLAIN.fullmatch(url) is not None and not urlsplit(url).fragment
    except ValueError:
        return False
    return plain and (scheme == "https" or _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
