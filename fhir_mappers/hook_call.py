"""A call of a CDS service as it comes, checked field by field.

What the specification lets a client add is ignored: unknown fields, unknown context, extensions.

References
----------
CDS Hooks 2.0, Calling a CDS Service; hooks library for the context of each hook.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir_mappers.errors import MapperError

Json = Mapping[str, Any]
_LONGEST = 1024


class InvalidHookCall(MapperError):
    """A call breaks a rule of CDS Hooks. The message names the field, never its value."""


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call.

    Parameters
    ----------
    hook, hook_instance
        Which hook, and the UUID of this invocation.
    context
        As sent; the fields that the hook requires are present and are text.
    fhir_server
        The client's FHIR endpoint, or empty.
    access_token
        To be used there, or empty. Never stored, never logged.
    prefetch
        As sent. A key that is absent is unknown; ``None`` is known to be none.
    """

    hook: str
    hook_instance: str
    context: Json
    fhir_server: str = ""
    access_token: str = field(default="", repr=False)
    prefetch: Json = field(default_factory=dict)

    @property
    def user_id(self) -> str:
        """Who is at work, such as ``Practitioner/77``."""
        return str(self.context["userId"])

    @property
    def patient_id(self) -> str:
        """FHIR id of the patient."""
        return str(self.context["patientId"])

    @property
    def draft_orders(self) -> Sequence[Json]:
        """The orders in the context: ServiceRequests and the like, as the client holds them."""
        bundle = self.context.get("draftOrders")
        entries = bundle.get("entry", ()) if isinstance(bundle, dict) else ()
        if not isinstance(entries, list):
            return ()
        resources = [entry.get("resource") for entry in entries if isinstance(entry, dict)]
        return [each for each in resources if isinstance(each, dict)]


def hook_call(value: Json, *, hook: str, required: Sequence[str]) -> HookCall:
    """Read a call.

    Parameters
    ----------
    value
        The JSON object.
    hook
        The hook that the service answers.
    required
        Fields that its context has to have, each a text.

    Raises
    ------
    InvalidHookCall
        If a field is missing or malformed.
    """
    if value.get("hook") != hook:
        msg = f"hook: this service answers {hook}."
        raise InvalidHookCall(msg)
    instance = value.get("hookInstance")
    try:
        uuid.UUID(str(instance))
    except ValueError as error:
        msg = "hookInstance: must be a UUID."
        raise InvalidHookCall(msg) from error
    context = value.get("context")
    if not isinstance(context, dict):
        msg = "context: is required."
        raise InvalidHookCall(msg)
    for name in required:
        given = context.get(name)
        if not isinstance(given, str) or not given or len(given) > _LONGEST:
            msg = f"context.{name}: is required."
            raise InvalidHookCall(msg)
    server, token = _server(value)
    return HookCall(hook, str(instance), context, server, token, _prefetch(value))


def _server(value: Json) -> tuple[str, str]:
    """Give the FHIR endpoint and its token.

    Raises
    ------
    InvalidHookCall
        If they are not as they must be.
    """
    server = value.get("fhirServer", "")
    if not isinstance(server, str) or len(server) > _LONGEST:
        msg = "fhirServer: must be a URL."
        raise InvalidHookCall(msg)
    authorization = value.get("fhirAuthorization")
    if authorization is None:
        return server, ""
    if not server:
        msg = "fhirServer: is required with fhirAuthorization."
        raise InvalidHookCall(msg)
    if not isinstance(authorization, dict):
        msg = "fhirAuthorization: must be an object."
        raise InvalidHookCall(msg)
    token, kind = authorization.get("access_token"), authorization.get("token_type")
    if not isinstance(token, str) or not token or kind != "Bearer":
        msg = "fhirAuthorization: access_token and token_type Bearer are required."
        raise InvalidHookCall(msg)
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = "fhirAuthorization.access_token: is no bearer token."
        raise InvalidHookCall(msg)
    return server, token


def _prefetch(value: Json) -> Json:
    """Give the prefetched data.

    Raises
    ------
    InvalidHookCall
        If an entry is neither a resource nor null.
    """
    prefetch = value.get("prefetch")
    if prefetch is None:
        return {}
    if not isinstance(prefetch, dict):
        msg = "prefetch: must be an object."
        raise InvalidHookCall(msg)
    for name, each in prefetch.items():
        if each is not None and not (isinstance(each, dict) and each.get("resourceType")):
            msg = f"prefetch.{name if name.isidentifier() else '?'}: must be a resource, or null."
            raise InvalidHookCall(msg)
    return prefetch


def identifiers(patient: Json) -> Sequence[tuple[str, str]]:
    """Give namespace and value of each identifier of a Patient; old ones are left out.

    References
    ----------
    FHIR R4 Identifier.use ``old``.
    """
    listed = patient.get("identifier")
    return [
        (str(each.get("system") or ""), str(each["value"]))
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and each.get("value") and each.get("use") != "old"
    ]


def study_uids(studies: Sequence[Json]) -> Sequence[str]:
    """Give the Study Instance UIDs of ImagingStudy resources.

    References
    ----------
    FHIR R4 ImagingStudy.identifier, system ``urn:dicom:uid``.
    """
    found = [
        value.removeprefix("urn:oid:")
        for study in studies
        if study.get("resourceType") == "ImagingStudy"
        for system, value in identifiers(study)
        if system == "urn:dicom:uid"
    ]
    return list(dict.fromkeys(found))


def is_about(resource: Json, patient_id: str) -> bool:
    """Say whether a resource's subject is the patient: relative, or absolute with that ending."""
    subject = resource.get("subject") or resource.get("for")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    named = f"Patient/{patient_id}"
    return isinstance(reference, str) and (reference == named or reference.endswith(f"/{named}"))
