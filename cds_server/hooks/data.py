"""The data of a hook: what was prefetched, and what has to be fetched."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from cds_server.ehr_records import EhrRecords, has_next_page, is_fhir_id, page_entries
from cds_server.errors import CdsServerError, PeerUnavailable
from cds_server.hooks.services import Service
from cds_server.network import Ehr
from cds_server.oauth.smart_client import LaunchRefused, SmartClient
from cds_server.outbound import Outbound
from fhir_mappers.hook_call import HookCall, InvalidHookCall

_TOKEN = re.compile(r"\{\{context\.(\w+)\}\}")
Resource = Mapping[str, Any]


class MissingData(CdsServerError):
    """Data that a service needs were neither prefetched nor to be had. The answer is 412."""


class HookData:
    """Fetches for one EHR.

    Parameters
    ----------
    ehr
        Whose hooks; ``None`` for a caller on this machine, whose context names the patient by the
        number that the archive uses.
    http
        How its FHIR endpoint is asked.
    backend
        Gets tokens for the server itself, for a call that brings none; or ``None``.
    """

    def __init__(self, ehr: Ehr | None, http: Outbound, backend: SmartClient | None) -> None:
        self._ehr = ehr
        self._records = EhrRecords(ehr, http) if ehr else None
        self._backend = backend if ehr and ehr.smart and ehr.smart.backend_scopes else None

    def resolved(self, call: HookCall, service: Service) -> Mapping[str, Sequence[Resource]]:
        """Give the resources of each prefetch key; empty means that the record has none.

        Parameters
        ----------
        call
            The call.
        service
            Whose templates to fill.

        Raises
        ------
        MissingData
            If what the service requires cannot be had.
        """
        actions = self._ehr.system_actions if self._ehr else None
        templates = service.templates(actions) if actions else service.prefetch
        required = service.required if self._ehr else service.required[1:]
        found: dict[str, Sequence[Resource]] = {}
        for key, template in templates.items():
            try:
                found[key] = self._one(call, key, template)
            except PeerUnavailable as error:
                if key in required:
                    msg = f"prefetch.{key} was not given, and cannot be fetched: {error}"
                    raise MissingData(msg) from error
                structlog.get_logger("radcds.hooks").info("optional data", key=key, why=str(error))
        return found

    def _one(self, call: HookCall, key: str, template: str) -> Sequence[Resource]:
        """Give one key's resources, prefetched or fetched.

        Raises
        ------
        InvalidHookCall
            If what was prefetched is of another type than the template asks for.
        PeerUnavailable
            If it cannot be had.
        """
        if key in call.prefetch:
            given = call.prefetch[key]
            if given is None:
                return []
            if given["resourceType"] != "OperationOutcome":
                return self._entries(call, key, template, given)
        records, token = self._of(call), self._token(call)
        answer = records.get(self._path(call, template), token)
        return self._entries(call, key, template, answer)

    def _entries(
        self, call: HookCall, key: str, template: str, given: Resource
    ) -> Sequence[Resource]:
        """Give the resources of an answer, all pages of a Bundle.

        Raises
        ------
        InvalidHookCall
            If it is of another type than the template asks for.
        """
        wanted = re.split(r"[/?]", template)[0]
        if given["resourceType"] == wanted:
            return [given]
        if given["resourceType"] != "Bundle" or "?" not in template:
            msg = f"prefetch.{key}: must be what its template asks for."
            raise InvalidHookCall(msg)
        if has_next_page(given):
            entries = self._of(call).all_entries(given, self._token(call))
        else:
            entries = page_entries(given)
        return [each for each in entries if each.get("resourceType") == wanted]

    def _path(self, call: HookCall, template: str) -> str:
        """Fill a template.

        Raises
        ------
        InvalidHookCall
            If the context gives no FHIR id for it.
        """
        for name in _TOKEN.findall(template):
            if not is_fhir_id(str(call.context.get(name, ""))):
                msg = f"context.{name}: is no FHIR id."
                raise InvalidHookCall(msg)
        return _TOKEN.sub(lambda token: str(call.context[token[1]]), template)

    def _of(self, call: HookCall) -> EhrRecords:
        """Give the endpoint that a call may name: the EHR's own.

        Raises
        ------
        PeerUnavailable
            If it names another, or none.
        """
        named = call.fhir_server.rstrip("/")
        if self._records is None or self._ehr is None or named != self._ehr.fhir_base_url:
            msg = "fhirServer is missing, or not the one that this client is registered with"
            raise PeerUnavailable(msg)
        return self._records

    def _token(self, call: HookCall) -> str:
        """Give a token for the endpoint.

        Raises
        ------
        PeerUnavailable
            If there is none to be had.
        """
        if call.access_token:
            return call.access_token
        if self._backend is None or self._ehr is None or self._ehr.smart is None:
            msg = "fhirAuthorization is missing"
            raise PeerUnavailable(msg)
        try:
            return self._backend.backend_token(self._ehr.smart.backend_scopes)
        except LaunchRefused as error:
            msg = "the EHR gives this server no token of its own"
            raise PeerUnavailable(msg) from error
