"""The audit trail in SQL: append-only, each event a leaf of a Merkle tree."""

from collections.abc import Sequence

import orjson
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import DatabaseError

from cds_server.adapters.sql_schema import audit_frontier, audit_leaf
from cds_server.adapters.sql_transaction import reading, transaction
from cds_server.audit.merkle import Frontier, leaf_hash
from cds_server.errors import AuditUnavailable

_HASH_BYTES = 32
_PAGE = 1000


class SqlAuditTrail:
    """Every event is a leaf; every row carries the root of the tree up to it.

    Any change, insertion, reordering or removal before the last event is found by ``verify``. That
    the newest events were cut off cannot be seen from inside the database: keep a root elsewhere.

    Parameters
    ----------
    engine
        Of ``sql_schema.open_engine``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(self, events: Sequence[bytes]) -> None:
        """Append events in one durable transaction.

        Raises
        ------
        AuditUnavailable
            If the database refuses: full, locked, read-only or damaged.
        """
        try:
            with transaction(self._engine) as connection:
                append(connection, events)
        except DatabaseError as error:
            msg = f"the audit trail cannot be written ({error.orig})"
            raise AuditUnavailable(msg) from error

    def events(self, study_instance_uid: str | None = None) -> Sequence[bytes]:
        """Give the events of one study, or all, oldest first."""
        query = select(audit_leaf.c.content).order_by(audit_leaf.c.sequence)
        if study_instance_uid is not None:
            query = query.where(audit_leaf.c.study_instance_uid == study_instance_uid)
        with reading(self._engine) as connection:
            return [bytes(content) for content in connection.scalars(query)]

    def verify(self) -> int:
        """Compute the whole tree again and give the number of events.

        Raises
        ------
        AuditUnavailable
            Naming the first event that is not as it was recorded.
        """
        tree = Frontier()
        query = select(audit_leaf).order_by(audit_leaf.c.sequence)
        with reading(self._engine) as connection:
            for row in connection.execute(query.execution_options(yield_per=_PAGE)):
                if row.sequence != tree.size:
                    msg = f"audit event {tree.size} is missing: the next one is {row.sequence}"
                    raise AuditUnavailable(msg)
                content = row.content if isinstance(row.content, bytes) else b""
                tree.append(leaf_hash(content))
                if leaf_hash(content) != row.leaf_hash or tree.root != row.root:
                    msg = f"audit event {row.sequence} is not as it was recorded"
                    raise AuditUnavailable(msg)
            kept = _frontier(connection)
        if kept.size != tree.size or kept.root != tree.root:
            msg = f"the trail ends at event {tree.size - 1}, but {kept.size} were recorded"
            raise AuditUnavailable(msg)
        return tree.size


def append(connection: Connection, events: Sequence[bytes]) -> None:
    """Append events within a transaction of the caller's."""
    tree = _frontier(connection)
    rows = []
    for content in events:
        leaf = leaf_hash(content)
        sequence = tree.size
        tree.append(leaf)
        rows.append(
            {
                "sequence": sequence,
                "content": content,
                "leaf_hash": leaf,
                "root": tree.root,
                "study_instance_uid": _study_of(content),
            }
        )
    if not rows:
        return
    connection.execute(insert(audit_leaf), rows)
    values = {"size": tree.size, "subtrees": b"".join(tree.subtrees)}
    changed = connection.execute(update(audit_frontier).values(values)).rowcount
    if not changed:
        connection.execute(insert(audit_frontier).values(id=1, **values))


def _frontier(connection: Connection) -> Frontier:
    row = connection.execute(select(audit_frontier)).first()
    if row is None:
        return Frontier()
    starts = range(0, len(row.subtrees), _HASH_BYTES)
    subtrees = [row.subtrees[start : start + _HASH_BYTES] for start in starts]
    return Frontier(row.size, subtrees)


def _study_of(content: bytes) -> str:
    """Find the study that an event is about."""
    for entity in orjson.loads(content).get("entity", ()):
        identifier = entity.get("what", {}).get("identifier", {})
        if identifier.get("system") == "urn:dicom:uid":
            return str(identifier.get("value", "")).removeprefix("urn:oid:")
    return ""
