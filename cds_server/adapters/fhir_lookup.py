"""Which Patient and which order of a FHIR server a study is about: exactly one, or an error.

Identifiers are sent in the body of a search, for addresses end in access logs.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from cds_server.adapters.fhir_link import FhirLink, read_json
from cds_server.errors import DeliveryFailed, DeliveryRefused
from cds_server.oauth.token_response import relative_reference
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.literal_references import LogicalReference
from fhir_mappers.searchset import has_more, matches, subject_of, successors, token

_FORM = "application/x-www-form-urlencoded"
_PAGE = "20"
_NO_SEARCH_BY_POST = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.NOT_IMPLEMENTED,
}
_ELEMENTS = {
    "Patient": "identifier,active,link",
    "ServiceRequest": "identifier,status,subject",
}


class FhirLookup:
    """Finds the literal references of a study on one FHIR server.

    Parameters
    ----------
    link
        The way to it.
    resource_types
        What to look for: ``Patient``, ``ServiceRequest``.
    """

    def __init__(self, link: FhirLink, resource_types: Iterable[str]) -> None:
        self._link = link
        self._types = [each for each in _ELEMENTS if each in set(resource_types)]

    def literal(self, wanted: Iterable[LogicalReference]) -> Mapping[LogicalReference, str]:
        """Give the literal references that there are; what is not found has none.

        Raises
        ------
        DeliveryRefused
            If more than one resource has the identifier, the Patient there is no longer used, or
            the order there is another patient's.
        DestinationUnavailable
            If the server does not answer.
        DeliveryFailed
            If its answer is not as it must be.
        """
        found: dict[LogicalReference, str] = {}
        patients: set[str] = set()
        asked = [each for each in wanted if each.resource_type in self._types]
        for each in sorted(asked, key=lambda each: self._types.index(each.resource_type)):
            matching = self._matching(each)
            if each.resource_type == "Patient":
                living = {self._living(patient) for patient in matching}
                patients |= living | {f"Patient/{patient['id']}" for patient in matching}
            else:
                living = {self._order(order, patients) for order in matching}
            if len(living) > 1:
                msg = (
                    f"more than one {each.resource_type} of the FHIR server has the identifier of "
                    "this study: which one is meant is not guessed"
                )
                raise DeliveryRefused(msg)
            found.update((each, reference) for reference in living)
        return found

    def _matching(self, wanted: LogicalReference) -> Sequence[Mapping[str, Any]]:
        """Search, and keep what really has the identifier.

        Raises
        ------
        DeliveryRefused
            If the server refuses the search, or finds more than a page.
        DeliveryFailed
            If its answer is not as it must be.
        """
        what = f"the search for the {wanted.resource_type}"
        form = {
            "identifier": token(wanted),
            "_count": _PAGE,
            "_elements": _ELEMENTS[wanted.resource_type],
        }
        query, path = urlencode(form, quote_via=quote), wanted.resource_type
        answer = self._link.ask(
            "POST", f"{path}/_search", query.encode(), headers={"Content-Type": _FORM}
        )
        if answer.status in _NO_SEARCH_BY_POST:
            answer = self._link.ask("GET", f"{path}?{query}")
        if answer.status != HTTPStatus.OK:
            raise self._link.failure(answer, what)
        searchset = read_json(answer, what)
        try:
            found = matches(searchset, wanted)
        except InvalidMessage as error:
            msg = f"the FHIR server answers {what} with something else: {error}"
            raise DeliveryFailed(msg) from None
        if has_more(searchset):
            msg = f"{what} by its identifier gives pages of them: which is meant is not guessed"
            raise DeliveryRefused(msg)
        return [each for each in found if each.get("status") != "entered-in-error"]

    def _living(self, patient: Mapping[str, Any]) -> str:
        """Give the Patient, or the one that it was merged into.

        Raises
        ------
        DeliveryRefused
            If there is none that is used.
        """
        replaced_by = successors(patient)
        if replaced_by:
            patient = self._successor(replaced_by)
        if patient.get("active") is False or successors(patient):
            msg = "the Patient of this study on the FHIR server is no longer used"
            raise DeliveryRefused(msg)
        return f"Patient/{patient['id']}"

    def _successor(self, references: Sequence[str]) -> Mapping[str, Any]:
        """Fetch the Patient that another one was merged into.

        Raises
        ------
        DeliveryRefused
            If it is not named, not on this server, or not there.
        """
        named = {relative_reference(each, self._link.base_url) for each in references}
        reference = named.pop() if len(named) == 1 else None
        if reference is None or not reference.startswith("Patient/"):
            msg = "the Patient of this study was merged into one that the FHIR server does not name"
            raise DeliveryRefused(msg)
        what = "the Patient that this study's was merged into"
        answer = self._link.ask("GET", reference)
        if answer.status != HTTPStatus.OK:
            raise self._link.failure(answer, what)
        patient = read_json(answer, what)
        if f"{patient.get('resourceType')}/{patient.get('id')}" != reference:
            msg = f"the FHIR server answers with something else than {what}"
            raise DeliveryRefused(msg)
        return patient

    def _order(self, order: Mapping[str, Any], patients: set[str]) -> str:
        """Give the order, if it is for the patient of the study.

        Raises
        ------
        DeliveryRefused
            If it is another patient's.
        """
        subject = relative_reference(subject_of(order), self._link.base_url)
        if patients and subject not in patients:
            msg = "the order of this study on the FHIR server is for another patient"
            raise DeliveryRefused(msg)
        return f"ServiceRequest/{order['id']}"
