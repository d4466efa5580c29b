"""Who a patient is now: what came in since a study was made, and whose number became whose.

A number that was merged into another leads there, and on to where that one leads. What is said of a
patient is taken from the messages that came after the study began; which numbers are one patient,
from all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from cds_server.inbox import Inbox, KnownChange
from fhir_mappers.hl7_inbound.identity import Identifier, ReceivedPatient
from fhir_mappers.hl7_inbound.patient_changes import (
    PatientChange,
    PatientMerge,
    PatientUpdate,
    changed_study,
)
from fhir_mappers.study import Study

_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


class KnownPatients:
    """Looks patients up in what came in.

    Parameters
    ----------
    inbox
        What came in.
    default_issuer
        Namespace of patient identifiers that name none.
    aliases
        One name for namespaces that are written differently.
    """

    def __init__(
        self, inbox: Inbox, *, default_issuer: str, aliases: Mapping[str, str] = _NO_ALIASES
    ) -> None:
        self._inbox = inbox
        self._default_issuer = default_issuer
        self._aliases = aliases

    def known(self, study: Study) -> Study:
        """Give a study with its patient as they are known now."""
        followed: set[str] = set()
        while study.patient.patient_id not in followed:
            followed.add(study.patient.patient_id)
            changes = self._inbox.changes(study.patient.patient_id)
            for update in _updates(changes, study.started):
                study = self._changed(study, update) or study
            study = self._merged(study, changes) or study
        return study

    def leads_back(self, merge: PatientMerge, before: Sequence[PatientMerge] = ()) -> bool:
        """Say whether a merge would make a ring: its survivor leads to the number that it retires.

        Parameters
        ----------
        merge
            That is to be taken.
        before
            Others that are taken with it.
        """
        followed: list[Identifier] = []
        successor: Identifier | None = merge.surviving
        while successor is not None and successor not in followed:
            if self._same(successor, merge.retired):
                return True
            followed.append(successor)
            successor = self._successor(successor, before)
        return False

    def _merged(self, study: Study, changes: Sequence[KnownChange]) -> Study | None:
        """Give the study under the number that its patient's was merged into, the latest counts."""
        found = (self._changed(study, _number_alone(each)) for each in _merges(changes))
        return next((each for each in found if each is not None), None)

    def _changed(self, study: Study, change: PatientChange) -> Study | None:
        return changed_study(
            study, change, default_issuer=self._default_issuer, aliases=self._aliases
        )

    def _successor(
        self, identifier: Identifier, before: Sequence[PatientMerge]
    ) -> Identifier | None:
        merges = [*reversed(before), *_merges(self._inbox.changes(identifier.value))]
        return next(
            (each.surviving for each in merges if self._same(each.retired, identifier)), None
        )

    def _same(self, one: Identifier, other: Identifier) -> bool:
        return one.value == other.value and bool(self._spaces(one) & self._spaces(other))

    def _spaces(self, identifier: Identifier) -> set[str]:
        named = identifier.authorities or (self._default_issuer,)
        return {self._aliases.get(each, each) for each in named}


def _updates(changes: Sequence[KnownChange], since: datetime | None) -> list[PatientUpdate]:
    """Give what is said of patients; a merge says something of the one that stays."""
    return [
        PatientUpdate("A40", each.change.patient)
        if isinstance(each.change, PatientMerge)
        else each.change
        for each in changes
        if since is None or each.received >= since
    ]


def _merges(changes: Sequence[KnownChange]) -> list[PatientMerge]:
    """Give merges, the latest first."""
    return [each.change for each in reversed(changes) if isinstance(each.change, PatientMerge)]


def _number_alone(merge: PatientMerge) -> PatientMerge:
    """Leave out what a merge says besides; it is told as an update, if it is recent enough."""
    return replace(merge, patient=ReceivedPatient((merge.surviving,)))
