"""What the CDS services say about a patient, and what a person answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from mock_ehr.card_view import CardView, card_views
from mock_ehr.cds_client import CdsClient
from mock_ehr.ledger import LaunchContext
from mock_ehr.office import Office
from mock_ehr.page_parts import USER, current_encounter

_HOOK = "patient-view"


@dataclass(frozen=True, slots=True)
class Advice:
    """What the services said, and which of them failed to say anything."""

    cards: list[CardView] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def advice(office: Office, client: CdsClient, patient_id: str) -> Advice:
    """Ask every patient-view service; whatever keeps one from answering is told in words.

    Parameters
    ----------
    office
        The EHR.
    client
        Asks the CDS services.
    patient_id
        Whose chart is open.
    """
    encounter = current_encounter(office, patient_id)

    def open_launch(app_context: str | None) -> str:
        context = LaunchContext(
            user=USER, patient=patient_id, encounter=encounter, app_context=app_context
        )
        return f"/open/{office.ledger.new_launch(context)}"

    context = {"userId": USER, "patientId": patient_id}
    if encounter:
        context["encounterId"] = encounter
    cards: list[CardView] = []
    try:
        services = _services(client)
        for service in services:
            answer = client.call(service, context, prefetch=True)
            answer.raise_for_status()
            url = office.registration.launch_url
            cards += card_views(service["id"], _listed(answer, "cards"), url, open_launch)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        return Advice(cards, [f"The decision support service answered with error {status}."])
    except httpx.HTTPError:
        return Advice(cards, ["The decision support service could not be reached."])
    except ValueError:
        return Advice(cards, ["The decision support service gave an answer that is no answer."])
    missing = [] if services else ["The decision support service offers nothing for this view."]
    return Advice(cards, missing)


def _services(client: CdsClient) -> list[dict[str, Any]]:
    answer = client.discover()
    answer.raise_for_status()
    return [
        each
        for each in _listed(answer, "services")
        if isinstance(each, dict) and each.get("hook") == _HOOK and isinstance(each.get("id"), str)
    ]


def _listed(answer: httpx.Response, name: str) -> Sequence[Any]:
    """Give the array that an answer must have.

    Raises
    ------
    ValueError
        If it has none.
    """
    body = answer.json()
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        msg = f"no {name}"
        raise ValueError(msg)  # noqa: TRY004
    return found


def fed_back(office: Office, client: CdsClient, form: Mapping[str, str]) -> str:
    """Send what a person decided about a card, and say what came of it.

    Parameters
    ----------
    office
        The EHR.
    client
        Sends the feedback.
    form
        As the chart's buttons make it.
    """
    moment = datetime.fromtimestamp(office.ledger.clock(), UTC)
    entry: dict[str, Any] = {
        "card": form["card"],
        "outcome": form["outcome"],
        "outcomeTimestamp": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    words = "Accepted" if form["outcome"] == "accepted" else "Overridden"
    if form["outcome"] == "accepted":
        entry["acceptedSuggestions"] = [{"id": form["suggestion"]}]
    elif form.get("code"):
        reason = {name: form[name] for name in ("code", "system", "display")}
        entry["overrideReason"] = {"reason": reason}
        words = f"Overridden: {form['display']}"
    try:
        answer = client.send_feedback(form["service"], [entry])
    except httpx.HTTPError:
        return f"{words}. The feedback could not be sent."
    sent = "The service was told." if answer.is_success else "The service refused the feedback."
    return f"{words}. {sent}"
