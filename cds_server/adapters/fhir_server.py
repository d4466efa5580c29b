"""Delivery of results to a FHIR server of somebody else.

::

    compose   look up Patient and order ─► put literal references ─► check ─► the bytes to keep
    send      first attempt: POST the transaction
              any other:     read what is there ─► nothing: POST ─► all of it: delivered already
                                                └► changed or deleted by somebody else: refused

Every resource is PUT under an id that derives from the result, so that any number of attempts by
any number of workers leaves one of each. Conditional creates are not used: two at once make two.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from cds_server.adapters.bounded_http import BoundedHttp
from cds_server.adapters.fhir_credentials import Credentials
from cds_server.adapters.fhir_link import FHIR_JSON, FhirLink, read_json
from cds_server.adapters.fhir_lookup import FhirLookup
from cds_server.errors import DeliveryFailed, DeliveryRefused
from cds_server.outbound import Answer
from cds_server.ports import Clock, StoredResult
from fhir_mappers.errors import InvalidMessage
from fhir_mappers.held_resources import Held, conflict, entry_statuses, held_resources, same_content
from fhir_mappers.literal_references import logical_references, with_literal_references
from fhir_mappers.report_context import ReportSet
from fhir_mappers.transaction_entries import (
    Entry,
    batch_of_reads,
    is_settled,
    transaction_entries,
    with_versions,
)

_MOST_ENTRIES = 500  # of Azure Health Data Services; others take as many
_LARGEST_BYTES = 16 * 1024 * 1024
_CONTENT = {"Content-Type": f"{FHIR_JSON}; charset=utf-8; fhirVersion=4.0"}
_STORED = {HTTPStatus.OK, HTTPStatus.CREATED}
_REMEMBERED = 1000
_MOST_FAULTS = 5


def _no_faults(_: bytes) -> Sequence[str]:
    return ()


def _nothing_before(_: str) -> bytes | None:
    return None


class FhirServerDestination:
    """Sends each result as one transaction. Threads may share it.

    Parameters
    ----------
    name
        Short name: names the queue and the log line.
    base_url
        Base address of the FHIR server (R4).
    http
        Sends the requests.
    credentials
        Who this server is for it; ``None`` where it does not ask.
    clock
        What time it is.
    linked
        Whose literal references are looked up there: ``Patient``, ``ServiceRequest``, both, none.
    check
        Gives the faults of a transaction, each in words without patient data; such as against the
        profiles that the server asks for.
    sent_before
        Gives the latest message that arrived there about a result, by its id; ``None`` if none did.
    largest_bytes
        Size of a message that is still sent.
    at_once
        How many messages may be under way at once.

    Raises
    ------
    InvalidSettings
        If the address is not good, or credentials would travel in the clear.
    """

    def __init__(  # noqa: PLR0913 - every collaborator, by name
        self,
        name: str,
        base_url: str,
        *,
        http: BoundedHttp,
        credentials: Credentials | None,
        clock: Clock,
        linked: frozenset[str] = frozenset({"Patient", "ServiceRequest"}),
        check: Callable[[bytes], Sequence[str]] = _no_faults,
        sent_before: Callable[[str], bytes | None] = _nothing_before,
        largest_bytes: int = _LARGEST_BYTES,
        at_once: int = 4,
    ) -> None:
        self.name = name
        self.at_once = at_once
        self._link = FhirLink(base_url, http=http, credentials=credentials, clock=clock)
        self._lookup = FhirLookup(self._link, linked)
        self._check = check
        self._sent_before = sent_before
        self._largest_bytes = largest_bytes
        self._untried = _Untried()

    # ── The message ──────────────────────────────────────────────────────────────────────────────

    def probe(self) -> str:
        """Ask for the capability statement, and say what it says.

        Raises
        ------
        DestinationUnavailable
            If there is no good answer.
        DeliveryRefused
            If the server is of another FHIR version than R4.
        """
        answer = self._link.ask("GET", "metadata")
        if answer.status != HTTPStatus.OK:
            raise self._link.failure(answer, "the question for its capabilities")
        version = str(read_json(answer, "its capabilities").get("fhirVersion", ""))
        if not version.startswith("4.0"):
            msg = f"the server says that it is FHIR {version or 'of no version'}; radcds writes R4"
            raise DeliveryRefused(msg)
        return f"{self._link.base_url} is FHIR {version}"

    def compose(self, result: StoredResult, artefacts: ReportSet) -> bytes:
        """Give the transaction, with literal references to Patient and order where there are any.

        Raises
        ------
        DeliveryRefused
            If it is not valid or too large, if it is not clear whose it is, or if somebody else
            changed what it would replace.
        DestinationUnavailable
            If the server does not answer.
        DeliveryFailed
            If its answer is not as it must be.
        """
        entries = _entries(artefacts.bundle)
        wanted = logical_references([each.resource for each in entries])
        message = with_literal_references(artefacts.bundle, self._lookup.literal(wanted))
        before = self._sent_before(result.result_id)
        if before is not None:
            message = with_versions(message, self._versions(_entries(message), _entries(before)))
        self._check_sendable(message, len(entries))
        if before is None and not any(is_settled(each.resource) for each in entries):
            self._untried.add(message)
        return message

    def _versions(self, entries: Sequence[Entry], before: Sequence[Entry]) -> Mapping[str, str]:
        """Give the versions that are replaced: those that this server left there.

        Raises
        ------
        DeliveryRefused
            If somebody else changed or deleted one.
        """
        earlier = {each.address: each.resource for each in before}
        held = self._held(entries)
        _refuse_conflicts(entries, held, earlier)
        return {address: each.version for address, each in held.items() if each.resource}

    def _check_sendable(self, message: bytes, count: int) -> None:
        """Refuse a message that would not be taken.

        Raises
        ------
        DeliveryRefused
            Saying why.
        """
        if count > _MOST_ENTRIES:
            msg = f"the transaction has {count} entries, and FHIR servers take {_MOST_ENTRIES}"
            raise DeliveryRefused(msg)
        if len(message) > self._largest_bytes:
            msg = f"the transaction has {len(message)} bytes, and {self._largest_bytes} may be sent"
            raise DeliveryRefused(msg)
        faults = self._check(message)
        if faults:
            more = f" (and {len(faults) - _MOST_FAULTS} more)" if len(faults) > _MOST_FAULTS else ""
            msg = f"the transaction is not valid: {'; '.join(faults[:_MOST_FAULTS])}{more}"
            raise DeliveryRefused(msg)

    # ── Its way ──────────────────────────────────────────────────────────────────────────────────

    def send(self, message: bytes) -> None:
        """Send a transaction; every resource of it is there when this returns.

        Raises
        ------
        DeliveryRefused
            If the server will never take it, or somebody else changed what it would replace.
        DestinationUnavailable
            If the server is away, overloaded, or refuses the credentials.
        DeliveryFailed
            If it may take it later.
        """
        entries = _entries(message)
        if not self._untried.take(message) and self._is_there(entries):
            return
        headers = {**_CONTENT, "Prefer": "return=minimal"}
        answer = self._link.ask("POST", "", message, headers=headers)
        self._check_stored(answer, len(entries))

    def _is_there(self, entries: Sequence[Entry]) -> bool:
        """Say whether an earlier attempt arrived whole.

        Raises
        ------
        DeliveryRefused
            If somebody else changed or deleted what is there.
        """
        held = self._held(entries)
        _refuse_conflicts(entries, held, {})
        there = [(each.resource, held[each.address].resource) for each in entries]
        return all(other is not None and same_content(one, other) for one, other in there)

    def _held(self, entries: Sequence[Entry]) -> Mapping[str, Held]:
        """Read what is there under the ids of a transaction, in one request.

        Raises
        ------
        DeliveryFailed
            If the server does not say it.
        """
        what = "the request for what is there already"
        addresses = [each.address for each in entries]
        answer = self._link.ask("POST", "", batch_of_reads(addresses), headers=_CONTENT)
        if answer.status != HTTPStatus.OK:
            raise self._link.failure(answer, what)
        try:
            return held_resources(read_json(answer, what), addresses)
        except InvalidMessage as error:
            msg = f"the FHIR server answers {what} with something else: {error}"
            raise DeliveryFailed(msg) from None

    def _check_stored(self, answer: Answer, count: int) -> None:
        """Believe that everything is stored only where the server says so of each entry.

        Raises
        ------
        DeliveryFailed
            Or one of its kinds, as the worst entry asks for.
        """
        what = "the transaction"
        if answer.status != HTTPStatus.OK:
            raise self._link.failure(answer, what)
        told = read_json(answer, what)
        try:
            statuses = entry_statuses(told, "transaction", count)
        except InvalidMessage as error:
            msg = f"the FHIR server answers {what} with something else: {error}"
            raise DeliveryFailed(msg) from None
        for number, status in enumerate(statuses):
            if status not in _STORED:
                outcome = told["entry"][number]["response"].get("outcome")
                entry = f"entry {number} of {what}"
                raise self._link.failure(answer, entry, status=status, outcome=outcome)


class _Untried:
    """Which messages were composed here for the first time, and not sent since.

    Nothing of theirs can be there yet, so that their first attempt need not look. What is not known
    here, such as after a restart, is looked for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, message: bytes) -> None:
        with self._lock:
            self._digests[hashlib.sha256(message).digest()] = None
            while len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)

    def take(self, message: bytes) -> bool:
        """Say whether it is one of them; from now on it is not."""
        digest = hashlib.sha256(message).digest()
        with self._lock:
            known = digest in self._digests
            self._digests.pop(digest, None)
            return known


def _entries(transaction: bytes) -> Sequence[Entry]:
    """Read a transaction.

    Raises
    ------
    DeliveryRefused
        If it is none.
    """
    try:
        return transaction_entries(transaction)
    except InvalidMessage as error:
        raise DeliveryRefused(str(error)) from error


def _refuse_conflicts(
    entries: Sequence[Entry],
    held: Mapping[str, Held],
    earlier: Mapping[str, Mapping[str, Any]],
) -> None:
    """Overwrite nothing that is somebody else's.

    Raises
    ------
    DeliveryRefused
        Naming the first one.
    """
    for entry in entries:
        fault = conflict(entry, held[entry.address], earlier.get(entry.address))
        if fault:
            msg = f"{fault}, and is not overwritten: a person has to decide which stands"
            raise DeliveryRefused(msg)
