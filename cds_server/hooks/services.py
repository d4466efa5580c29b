"""The CDS services: what each answers, what it needs, and what it says.

A hook never runs the model. It says what is stored, or that a study still waits. Everything that
the client did not prefetch is fetched from the client's own FHIR endpoint, and from no other.

References
----------
CDS Hooks 2.0.1; hooks library patient-view 1.0, order-sign 1.0, order-select 1.0,
encounter-discharge 1.0, appointment-book 1.0; 3.0.0-ballot where it says the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_engine.result import NotAnalysed, Priority, TriageResult
from cds_server.network import SystemActions
from cds_server.ports import StudyEntry

HOOK_VERSION = "1.0"
_PATIENT = {"patient": "Patient/{{context.patientId}}"}
_STUDIES = {
    "studies": "ImagingStudy?patient={{context.patientId}}&_sort=-started&_count=5",
}
_STUDY = {"study": "ImagingStudy/{{context.imagingStudyId}}"}
_ORDERS = "ServiceRequest?patient={{context.patientId}}&status=active&_count=50"
_WORKLIST = {
    SystemActions.SERVICE_REQUEST: {"worklist": _ORDERS},
    SystemActions.TASK: {
        "worklist": "Task?patient={{context.patientId}}&status=requested&_count=50",
        "orders": _ORDERS,
    },
}
_PATIENT_CONTEXT = ("userId", "patientId")


def _any(_: StudyEntry) -> bool:
    return True


def _needs_a_reader(entry: StudyEntry) -> bool:
    """Say whether something is to be seen before a patient leaves, and nobody has."""
    if entry.closed_at is not None:
        return False
    outcome = entry.result.outcome if entry.result else None
    if entry.recalled:
        return True
    if isinstance(outcome, TriageResult):
        return outcome.priority is not Priority.NORMAL
    return outcome is None or (isinstance(outcome, NotAnalysed) and outcome.reason.is_failure)


def _is_above_threshold(entry: StudyEntry) -> bool:
    """Say whether an unread study is flagged or urgent."""
    outcome = entry.result.outcome if entry.result else None
    open_ = entry.closed_at is None
    return (
        open_
        and not entry.recalled
        and isinstance(outcome, TriageResult)
        and outcome.priority is not Priority.NORMAL
    )


@dataclass(frozen=True, slots=True)
class Service:
    """One CDS service.

    Parameters
    ----------
    id, hook, title, description
        As discovery gives them.
    shows
        Which studies of the patient get a card.
    context
        Fields that the context has to have.
    prefetch
        Templates by key.
    required
        Keys without which nothing can be answered: then it is 412.
    about_orders
        Whether the cards are about draft imaging orders, and name them.
    """

    id: str
    hook: str
    title: str
    description: str
    shows: Callable[[StudyEntry], bool]
    context: tuple[str, ...] = _PATIENT_CONTEXT
    prefetch: Mapping[str, str] = field(default_factory=lambda: _PATIENT | _STUDIES)
    required: tuple[str, ...] = ("patient",)
    about_orders: bool = False

    def described(self, actions: SystemActions) -> dict[str, Any]:
        """Give the entry of the discovery document for one client."""
        return {
            "hook": self.hook,
            "title": self.title,
            "description": self.description,
            "id": self.id,
            "prefetch": dict(self.templates(actions)),
            "usageRequirements": "Results of studies that radcds has read. Not a medical device; "
            "research and evaluation use.",
            "version": "2.0.1",
            "hookVersion": HOOK_VERSION,
        }

    def templates(self, actions: SystemActions) -> Mapping[str, str]:
        """Give the prefetch templates for one client; its worklist only with its consent."""
        return {**self.prefetch, **_WORKLIST.get(actions, {})}


SERVICES: Sequence[Service] = (
    Service(
        "radcds-patient-view",
        "patient-view",
        "Imaging AI triage of this patient",
        "Says what the imaging AI returned for studies of this patient, or that it has not yet.",
        _any,
    ),
    Service(
        "radcds-order-select",
        "order-select",
        "Imaging done lately",
        "Before imaging is ordered: what was done lately, and what the imaging AI returned.",
        _is_above_threshold,
        about_orders=True,
    ),
    Service(
        "radcds-order-sign",
        "order-sign",
        "Imaging done lately",
        "Before an imaging order is signed: what was done lately, and what the AI returned.",
        _is_above_threshold,
        about_orders=True,
    ),
    Service(
        "radcds-encounter-discharge",
        "encounter-discharge",
        "Unread imaging before discharge",
        "Before a patient leaves: imaging that the AI flagged, or could not read, and nobody saw.",
        _needs_a_reader,
        context=(*_PATIENT_CONTEXT, "encounterId"),
    ),
    Service(
        "radcds-appointment-book",
        "appointment-book",
        "Flagged imaging before booking",
        "When an appointment is booked: imaging that the AI flagged and nobody has read yet.",
        _is_above_threshold,
    ),
    Service(
        "radcds-imagingstudy-open",
        "org.radcds.imagingstudy-open",
        "Imaging AI triage of this study",
        "When a study is opened in the RIS: what the imaging AI returned for it, or has not yet.",
        _any,
        context=(*_PATIENT_CONTEXT, "imagingStudyId"),
        prefetch=_PATIENT | _STUDY,
        required=("patient", "study"),
    ),
)


def service(service_id: str) -> Service | None:
    """Find a service."""
    return next((each for each in SERVICES if each.id == service_id), None)
