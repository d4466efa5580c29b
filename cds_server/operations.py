"""How the parts of the server are: what operators see, and what the audit trail keeps of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cds_server.ports import Clock
from fhir_mappers.audit_event import AuditFact, AuditKind, audit_event
from fhir_mappers.report_context import Site

WORKER = "worker"
_SILENT_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the server.

    Parameters
    ----------
    name
        Such as ``archive``.
    trouble
        What is wrong, in words without patient data; empty where nothing is.
    since
        Since when it is so.
    """

    name: str
    trouble: str
    since: datetime


class ComponentStore(Protocol):
    """Durable record of how the parts are. Processes may share it."""

    def note(self, noted: Component, audit_event: Callable[[], bytes]) -> bool:
        """Keep how a part is, with the audit event, where that is news; ``False`` if it is not.

        A part that was never in trouble is no news, nor is one that is in trouble still: its words
        are kept, and since when.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        ...

    def components(self) -> Sequence[Component]:
        """Give every part, by name."""
        ...

    def beat(self, name: str, at: datetime) -> None:
        """Keep that a part was alive.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        ...

    def last_beat(self, name: str) -> datetime | None:
        """Say when a part was alive for the last time; ``None`` where it never was."""
        ...


class Operations:
    """Notes how the parts of the server are.

    Parameters
    ----------
    store
        Where that is kept, together with the audit event.
    site
        Whose server this is.
    clock
        What time it is.
    """

    def __init__(self, store: ComponentStore, *, site: Site, clock: Clock) -> None:
        self._store = store
        self._site = site
        self._clock = clock

    def note(self, name: str, trouble: str = "") -> bool:
        """Note that a part works, or what is wrong with it; ``True`` if that is news.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        now = self._clock.now()
        fact = AuditFact(
            kind=AuditKind.OPERATION,
            recorded=now,
            user="radcds",
            address=self._site.base_url,
            outcome_code="8" if trouble else "0",
            outcome_text=trouble,
            detail={"component": name},
        )
        return self._store.note(
            Component(name, trouble, now), lambda: audit_event(fact, self._site)
        )

    def beat(self, name: str) -> None:
        """Note that a part is alive.

        Raises
        ------
        AuditUnavailable
            If it cannot be made durable.
        """
        self._store.beat(name, self._clock.now())

    def components(self) -> Sequence[Component]:
        """Give every part that was ever in trouble, by name, and the worker where it is silent."""
        known = self._store.components()
        last = self._store.last_beat(WORKER)
        if last is None or self._clock.now() - last < _SILENT_AFTER:
            return known
        silent = Component(WORKER, "The worker has given no sign of life: nothing is read.", last)
        return [*known, silent]
