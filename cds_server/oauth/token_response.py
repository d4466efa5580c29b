"""What a token endpoint answers, with the launch context of SMART.

References
----------
RFC 6749 section 5; SMART App Launch 2.2, scopes and launch context.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cds_server.oauth.bounded_json import json_object
from cds_server.oauth.scopes import granted
from cds_server.oauth.smart_configuration import refuse_failure
from cds_server.oauth.smart_errors import LaunchRefused, RefusedByEhr
from cds_server.outbound import Answer

_OK = 200
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")
_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]{0,63}/[A-Za-z0-9\-.]{1,64}")
_LONGEST = 64 * 1024
_SHORT_LIFE_S = 300  # where it is not told: SMART recommends it, and requires it of nobody
_SECONDS = re.compile(r"[1-9][0-9]{0,8}")
_MOST_CONTEXTS = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, as a verified ``id_token`` says.

    Parameters
    ----------
    issuer, subject
        Together they name the person for good.
    fhir_user
        ``fhirUser`` as a reference such as ``Practitioner/77``; an absolute address where it is
        not below the EHR's FHIR endpoint; ``None`` if not told.
    """

    issuer: str
    subject: str
    fhir_user: str | None


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token and what it is good for.

    Parameters
    ----------
    access_token
        For the FHIR endpoint of this EHR, and nobody else.
    expires_in_s
        How long it lasts, counted from when it was asked for.
    scopes
        What was granted, which may be less than was asked.
    patient, encounter
        Logical ids, or ``None``.
    context
        References of ``fhirContext`` that the launch is about, such as ``ImagingStudy/123``.
    need_patient_banner
        Whether the patient has to be shown; yes, unless the EHR says no.
    intent, app_context, tenant
        As the EHR sent them.
    refresh_token
        For the next token; one use.
    id_token
        As received, not verified.
    identity
        Who signed in; ``None`` without an ``id_token``.
    """

    access_token: str = field(repr=False)
    expires_in_s: int
    scopes: frozenset[str]
    patient: str | None = field(repr=False)
    encounter: str | None = field(repr=False)
    context: tuple[str, ...] = field(repr=False)
    need_patient_banner: bool
    intent: str | None
    app_context: str | None = field(repr=False)
    tenant: str | None
    refresh_token: str | None = field(repr=False)
    id_token: str | None = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)


def token_response(answer: Answer, *, ehr: str, fhir_base_url: str) -> TokenResponse:
    """Read the answer of a token endpoint.

    Raises
    ------
    PeerUnavailable
        If the authorisation server failed: worth trying again.
    RefusedByEhr
        If it refused.
    LaunchRefused
        If its answer is not as it must be.
    """
    refuse_failure(answer, ehr)
    if answer.status != _OK:
        code = _error_code(answer)
        msg = f"{ehr} refused access ({code or f'status {answer.status}'})."
        raise RefusedByEhr(msg, code)
    try:
        told = {k: v for k, v in json_object(answer.content).items() if v is not None}
        return TokenResponse(
            access_token=_access_token(told),
            expires_in_s=_seconds(told.get("expires_in", _SHORT_LIFE_S)),
            scopes=granted(_text(told, "scope", required=True) or ""),
            patient=_id(told, "patient"),
            encounter=_id(told, "encounter"),
            context=_contexts(told.get("fhirContext", []), fhir_base_url),
            need_patient_banner=told.get("need_patient_banner") is not False,
            intent=_text(told, "intent"),
            app_context=_text(told, "appContext"),
            tenant=_text(told, "tenant"),
            refresh_token=_text(told, "refresh_token"),
            id_token=_text(told, "id_token"),
        )
    except ValueError as error:
        msg = f"{ehr} answered with something other than a usable token ({error})."
        raise LaunchRefused(msg) from None


def relative_reference(value: str, fhir_base_url: str) -> str | None:
    """Give a reference as ``Type/id`` if it is one, or below the FHIR endpoint; else ``None``."""
    reference = value.removeprefix(f"{fhir_base_url}/")
    return reference if _REFERENCE.fullmatch(reference) else None


def _error_code(answer: Answer) -> str:
    try:
        code = json_object(answer.content).get("error")
    except ValueError:
        return ""
    return code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""


def _access_token(told: Mapping[str, object]) -> str:
    """Give the access token.

    Raises
    ------
    ValueError
        If it cannot be sent as a bearer token.
    """
    kind, token = told.get("token_type"), told.get("access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        msg = "token_type is not Bearer"
        raise ValueError(msg)
    if not isinstance(token, str) or len(token) > _LONGEST or not _BEARER.fullmatch(token):
        msg = "there is no usable access_token"
        raise ValueError(msg)
    return token


def _seconds(value: object) -> int:
    """Read ``expires_in``; some servers send it as a string.

    Raises
    ------
    ValueError
        If it is no positive number of seconds.
    """
    text = str(value) if isinstance(value, int | str) else ""
    if _SECONDS.fullmatch(text):
        return int(text)
    msg = "expires_in is no number of seconds"
    raise ValueError(msg)


def _text(told: Mapping[str, object], name: str, *, required: bool = False) -> str | None:
    """Give a string, or ``None``.

    Raises
    ------
    ValueError
        If it is something else, or missing though it is required.
    """
    value = told.get(name)
    if (value is None and required) or not isinstance(value, str | None):
        msg = f"{name} is missing or no string"
        raise ValueError(msg)
    if value is not None and len(value) > _LONGEST:
        msg = f"{name} is too long"
        raise ValueError(msg)
    return value or None


def _id(told: Mapping[str, object], name: str) -> str | None:
    """Give a logical id, or ``None``.

    Raises
    ------
    ValueError
        If it is something else: guessing could show another patient.
    """
    value = _text(told, name)
    if value is not None and not _ID.fullmatch(value):
        msg = f"{name} is no logical id"
        raise ValueError(msg)
    return value


def _contexts(value: object, fhir_base_url: str) -> tuple[str, ...]:
    """Give the references of ``fhirContext`` whose role is ``launch``, which is the default.

    Raises
    ------
    ValueError
        If it is not a list of objects.
    """
    if (
        not isinstance(value, list)
        or len(value) > _MOST_CONTEXTS
        or not all(isinstance(each, dict) for each in value)
    ):
        msg = "fhirContext is no list of objects"
        raise ValueError(msg)
    named = (each.get("reference") for each in value if each.get("role", "launch") == "launch")
    read = (relative_reference(each, fhir_base_url) for each in named if isinstance(each, str))
    return tuple(each for each in read if each)
