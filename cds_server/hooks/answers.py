"""What the CDS services answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from cds_server.hooks.card_access import CardAccess
from cds_server.hooks.data import HookData, Resource
from cds_server.hooks.services import Service
from cds_server.network import Ehr, Role
from cds_server.oauth.smart_client import SmartClient
from cds_server.outbound import Outbound
from cds_server.ports import Clock, StudyEntry
from cds_server.viewer import PatientScope, Viewer
from fhir_mappers.cds_card import about_orders, recent_imaging_card
from fhir_mappers.fhir_json import identifier_system
from fhir_mappers.hook_call import (
    HookCall,
    InvalidHookCall,
    identifiers,
    is_about,
    study_uids,
)
from fhir_mappers.report_context import Site
from fhir_mappers.worklist_priority import answers_order, is_task_of, raised

_MOST_CARDS = 10
_RECENT = timedelta(days=30)
_MOST_RECENT = 5
_ORDERS = frozenset({"ServiceRequest"})
_IMAGING = frozenset({"363679005", "RAD"})
_INDICATORS = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a CDS service: an EHR, or somebody on this machine (``ehr`` is ``None``)."""

    ehr: Ehr | None
    issuer: str
    address: str


class HookAnswers:
    """Answers hooks from what is stored.

    Parameters
    ----------
    cards
        The cards of stored results.
    http
        How EHRs are asked for what was not prefetched.
    smart
        Clients of the EHRs by FHIR base address, for tokens of the server's own.
    clock
        Says what is recent.
    """

    def __init__(
        self, cards: CardAccess, *, http: Outbound, smart: Mapping[str, SmartClient], clock: Clock
    ) -> None:
        self._cards = cards
        self._gate = cards.gate
        self._http = http
        self._smart = smart
        self._clock = clock

    def answer(self, service: Service, call: HookCall, caller: Caller) -> dict[str, Any]:
        """Give the response: cards, and actions where the EHR agreed to them.

        Raises
        ------
        InvalidHookCall
            If the call mixes two patients, or is malformed.
        MissingData
            If what is required cannot be had.
        """
        ehr = caller.ehr
        backend = self._smart.get(ehr.fhir_base_url) if ehr else None
        data = HookData(ehr, self._http, backend).resolved(call, service)
        viewer = self._viewer(call, caller, data)
        orders = _imaging_orders(call) if service.about_orders else ()
        entries = (
            [] if service.about_orders and not orders else self._entries(service, data, viewer)
        )
        query = f"{call.hook}?patient={call.patient_id}"
        cards = self._cards.cards(entries, viewer, service_id=service.id, query=query)
        shown = sorted(cards.values(), key=lambda card: _INDICATORS.index(card["indicator"]))
        if orders:
            shown = [about_orders(card, orders) for card in [*shown, *self._recent(call, data)]]
        worklist, ordered = (
            [each for each in data.get(key, ()) if is_about(each, call.patient_id)]
            for key in ("worklist", "orders")
        )
        actions = self._actions(entries, worklist, ordered)
        return {"cards": shown} | ({"systemActions": actions} if actions else {})

    def _viewer(
        self, call: HookCall, caller: Caller, data: Mapping[str, Sequence[Resource]]
    ) -> Viewer:
        """Give whoever the call is made for, bound to the patient of its context.

        Raises
        ------
        InvalidHookCall
            If what was prefetched is of another patient.
        """
        known: set[tuple[str, str]] = set()
        for patient in data.get("patient", ()):
            if patient.get("id") != call.patient_id:
                msg = "prefetch.patient: is not the patient of the context."
                raise InvalidHookCall(msg)
            known.update(self._identifiers(patient, caller.ehr))
        for study in data.get("study", ()):
            if not is_about(study, call.patient_id):
                msg = "prefetch.study: is not of the patient of the context."
                raise InvalidHookCall(msg)
        if caller.ehr is None:
            known.update(self._cards.numbered(call.patient_id))
        return Viewer(
            user=call.user_id,
            address=caller.address,
            role=Role.SYSTEM,
            client=caller.issuer,
            centres=caller.ehr.centres if caller.ehr else frozenset(),
            patient=PatientScope(f"Patient/{call.patient_id}", frozenset(known)),
        )

    def _identifiers(self, patient: Resource, ehr: Ehr | None) -> set[tuple[str, str]]:
        """Name a patient's identifiers as the archive does."""
        if ehr is None:
            return {
                pair for _, value in identifiers(patient) for pair in self._cards.numbered(value)
            }
        return archive_identifiers(patient, ehr, self._gate.site)

    def _entries(
        self, service: Service, data: Mapping[str, Sequence[Resource]], viewer: Viewer
    ) -> Sequence[StudyEntry]:
        """Give the studies that get a card."""
        found: dict[str, StudyEntry] = {}
        if "study" not in service.prefetch:
            found = {entry.result_id: entry for entry in self._gate.of_patient(viewer)}
        listed = [each for key in ("studies", "study") for each in data.get(key, ())]
        own = [each for each in listed if is_about(each, _id_of(viewer))]
        for uid in study_uids(own):
            for entry in self._gate.of_study(uid, viewer):
                found.setdefault(entry.result_id, entry)
        answered = [e for e in found.values() if not (e.superseded or e.shadow)]
        shown = [each for each in answered if service.shows(each)]
        return sorted(shown, key=lambda entry: (entry.rank, -entry.noticed_at.timestamp()))[
            :_MOST_CARDS
        ]

    def _recent(
        self, call: HookCall, data: Mapping[str, Sequence[Resource]]
    ) -> Sequence[dict[str, Any]]:
        """Give the card of imaging that the EHR knows was done lately, or none."""
        since = (self._clock.now() - _RECENT).date()
        recent = [
            (_modality(study), f"{taken:%d %b %Y}")
            for study in data.get("studies", ())
            if is_about(study, call.patient_id)
            and (taken := _started(study)) is not None
            and taken >= since
        ]
        if not recent:
            return []
        return [recent_imaging_card(call.hook_instance, recent[:_MOST_RECENT], self._gate.site)]

    def _actions(
        self,
        entries: Sequence[StudyEntry],
        worklist: Sequence[Resource],
        orders: Sequence[Resource],
    ) -> list[dict[str, Any]]:
        """Give the entries of the EHR's worklist whose priority rises: orders, or their tasks."""
        system = identifier_system("", self._gate.site)
        actions = []
        for resource in worklist:
            for entry in entries:
                if entry.result is None or entry.closed_at is not None or entry.recalled:
                    continue
                number = entry.result.study.accession_number
                known = [each for each in orders if answers_order(each, number, system)]
                if not (answers_order(resource, number, system) or is_task_of(resource, known)):
                    continue
                if (changed := raised(resource, entry.result.outcome)) is not None:
                    description = f"Raise the priority to {changed['priority']} (AI triage)"
                    actions.append(
                        {"type": "update", "description": description, "resource": changed}
                    )
                    break
        return actions


def archive_identifiers(patient: Resource, ehr: Ehr, site: Site) -> set[tuple[str, str]]:
    """Name the identifiers of an EHR's Patient as the archive does; without system, none."""
    return {
        (identifier_system(ehr.patient_systems.get(system, system), site), value)
        for system, value in identifiers(patient)
        if system
    }


def _id_of(viewer: Viewer) -> str:
    return viewer.patient.reference.removeprefix("Patient/") if viewer.patient else ""


def _imaging_orders(call: HookCall) -> Sequence[Mapping[str, Any]]:
    """Give the draft orders that may be for imaging: those of no category, or of that one.

    ``order-select`` looks at the selected ones alone.
    """
    selections = call.context.get("selections")
    selected = set(selections) if isinstance(selections, list) else None
    return [
        order
        for order in call.draft_orders
        if order.get("resourceType") in _ORDERS
        and (selected is None or f"{order['resourceType']}/{order.get('id')}" in selected)
        and _is_imaging(order)
    ]


def _is_imaging(order: Mapping[str, Any]) -> bool:
    categories = order.get("category")
    if not isinstance(categories, list) or not categories:
        return True
    codings = [
        coding
        for each in categories
        if isinstance(each, dict)
        for coding in each.get("coding") or ()
        if isinstance(coding, dict)
    ]
    return any(coding.get("code") in _IMAGING for coding in codings)


def _modality(study: Resource) -> str:
    named = study.get("modality")
    codes = [
        str(each["code"])
        for each in (named if isinstance(named, list) else [])
        if isinstance(each, dict) and each.get("code")
    ]
    return " ".join(codes) or "imaging"


def _started(study: Resource) -> date | None:
    try:
        return date.fromisoformat(str(study.get("started", ""))[:10])
    except ValueError:
        return None
