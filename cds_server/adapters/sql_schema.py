"""Tables of the embedded database, and how it is opened."""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import DatabaseError

from cds_server.errors import InvalidSettings
from cds_server.outbox import order_key

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for others, in this process and beyond."""

SCHEMA_VERSION = 3
_UPGRADED_IN_PLACE = frozenset({1, 2})
"""Versions that only lack tables; whoever needs a table's rows makes them from the older ones."""

ACCESSION_NUMBER = "json_extract(content, '$.study.accession_number')"
"""That of a stored result, as an expression that has an index."""

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

study = Table(
    "study",
    metadata,
    Column("result_id", String(36), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("noticed_at", String(40), nullable=False),
)

result = Table(
    "result",
    metadata,
    Column("result_id", String(36), ForeignKey("study.result_id"), primary_key=True),
    Column("patient_id", String(128), nullable=False, index=True),
    Column("stored_at", String(40), nullable=False),
    Column("content", Text, nullable=False),
)

artefact = Table(
    "artefact",
    metadata,
    Column("result_id", String(36), ForeignKey("result.result_id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("publication_id", String(36), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("result_id", String(36), nullable=False, index=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("order_key", String(36), nullable=False),
    Column("created", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("turn", Integer, nullable=False),
    Column("queued_turn", Integer, nullable=False),
    Column("strikes", Integer, nullable=False),
    Column("says", Text, nullable=False),
    Column("since", String(40)),
    Column("due", String(40)),
    UniqueConstraint("publication_id", "destination"),
    Index("outbox_order", "destination", "order_key", "state", "sequence"),
    Index("outbox_study", "destination", "study_instance_uid", "state", "sequence"),
    Index("outbox_of_order", "order_key"),
    Index("outbox_state", "destination", "state", "created"),
    sqlite_autoincrement=True,
)

outbound_message = Table(
    "outbound_message",
    metadata,
    Column("publication_id", String(36), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("sha256", String(64), nullable=False),
)

amendment = Table(
    "amendment",
    metadata,
    Column("publication_id", String(36), primary_key=True),
    Column("result_id", String(36), ForeignKey("result.result_id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created", String(40), nullable=False),
    Column("order_key", String(36), nullable=False),
    Column("recalls", Integer, nullable=False),
    Column("content", Text, nullable=False),
    UniqueConstraint("result_id", "number"),
)

amendment_artefact = Table(
    "amendment_artefact",
    metadata,
    Column("publication_id", String(36), ForeignKey("amendment.publication_id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

sign_off_request = Table(
    "sign_off_request",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("result_id", String(36), ForeignKey("result.result_id"), nullable=False),
    Column("source", String(64), nullable=False),
    Column("content", Text, nullable=False),
    Column("answered", Integer, nullable=False, default=0, index=True),
    sqlite_autoincrement=True,
)

recalled_model = Table(
    "recalled_model",
    metadata,
    Column("model_sha256", String(64), primary_key=True),
    Column("recalled_by", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String(40), nullable=False),
)

paused_destination = Table(
    "paused_destination",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("paused_by", String(128), nullable=False),
    Column("since", String(40), nullable=False),
)

arrival = Table(
    "arrival",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("instances", Integer),
    Column("in_place", Integer, nullable=False),
    Column("change", Integer, nullable=False),
    Column("looked", Integer, nullable=False),
    Column("changed_at", Integer, nullable=False),
    Column("due", Integer, nullable=False),
    Column("model", String(64), nullable=False),
)

component = Table(
    "component",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("trouble", Text, nullable=False),
    Column("since", String(40), nullable=False),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", String(40), nullable=False),
)

audit_leaf = Table(
    "audit_leaf",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary(32), nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Index("audit_leaf_study", "study_instance_uid", "sequence"),
)

audit_frontier = Table(
    "audit_frontier",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("subtrees", LargeBinary, nullable=False),
)

fhir_resource = Table(
    "fhir_resource",
    metadata,
    Column("resource_type", String(64), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("status", String(32), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("content", LargeBinary, nullable=False),
)

fhir_identifier = Table(
    "fhir_identifier",
    metadata,
    Column("resource_type", String(64), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("system", String(256), primary_key=True),
    Column("value", String(256), primary_key=True, index=True),
)

fhir_origin = Table(
    "fhir_origin",
    metadata,
    Column("resource_type", String(64), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("result_id", String(36), nullable=False, index=True),
)

worklist_line = Table(
    "worklist_line",
    metadata,
    Column("result_id", String(36), ForeignKey("study.result_id"), primary_key=True),
    Column("centre", String(64), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("due", Integer, nullable=False),
    Column("progress", String(16), nullable=False),
    Column("closed_at", String(40)),
    Column("superseded", Integer, nullable=False),
    Index("worklist_open", "superseded", "closed_at", "due", "rank"),
)

issued_card = Table(
    "issued_card",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("result_id", String(36), nullable=False),
    Column("service_id", String(64), nullable=False),
    Column("client", String(512), nullable=False),
)

card_feedback = Table(
    "card_feedback",
    metadata,
    Column("card", String(36), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("at", String(40), primary_key=True),
    Column("content", Text, nullable=False),
)

verdict = Table(
    "verdict",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("result_id", String(36), ForeignKey("study.result_id"), nullable=False, index=True),
    Column("user", String(256), nullable=False),
    Column("at", String(40), nullable=False),
    Column("agreement", String(16), nullable=False),
    Column("radpeer", String(4), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("comment", Text, nullable=False),
)

pending_launch = Table(
    "pending_launch",
    metadata,
    Column("state", String(64), primary_key=True),
    Column("started_at", Integer, nullable=False, index=True),
    Column("content", Text, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("handle", String(32), primary_key=True),
    Column("started_at", Integer, nullable=False, index=True),
    Column("seen_at", Integer, nullable=False),
    Column("refreshing_until", Integer, nullable=False, default=0),
    Column("content", Text, nullable=False),
    Column("access_token", Text, nullable=False),
    Column("refresh_token", Text, nullable=False),
    Column("access_until", Integer),
)

session_grant = Table(
    "session_grant",
    metadata,
    Column("handle", String(32), primary_key=True),
    Column("result_id", String(36), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("until", Integer, nullable=False),
)

used_token = Table(
    "used_token",
    metadata,
    Column("issuer", String(512), primary_key=True),
    Column("jti", String(256), primary_key=True),
    Column("until", Integer, nullable=False, index=True),
)

inbound_message = Table(
    "inbound_message",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("application", Text, nullable=False),
    Column("facility", Text, nullable=False),
    Column("control_id", String(199), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("received", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("says", Text, nullable=False),
    Column("settled", String(40)),
    Column("content", LargeBinary),
    UniqueConstraint("application", "facility", "control_id", "sha256"),
    Index("inbound_message_state", "state", "sequence"),
    sqlite_autoincrement=True,
)

imaging_order = Table(
    "imaging_order",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("application", Text, nullable=False),
    Column("facility", Text, nullable=False),
    Column("placer_number", String(250), nullable=False, index=True),
    Column("filler_number", String(250), nullable=False, index=True),
    Column("accession_number", String(250), nullable=False, index=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("procedure_code", String(250), nullable=False),
    Column("procedure_text", String(250), nullable=False),
    Column("procedure_system", String(250), nullable=False),
    Column("modality", String(250), nullable=False),
    Column("priority", String(250), nullable=False),
    Column("since", String(40), nullable=False),
    Column("patient_issuer", String(250), nullable=False),
    Column("patient_id", String(250), nullable=False),
    Column("cancelled", Integer, nullable=False),
)

patient_change = Table(
    "patient_change",
    metadata,
    Column("sequence", Integer, ForeignKey("inbound_message.sequence"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", Text, nullable=False),
)

patient_change_of = Table(
    "patient_change_of",
    metadata,
    Column("patient_id", String(250), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    ForeignKeyConstraint(
        ["sequence", "number"], ["patient_change.sequence", "patient_change.number"]
    ),
    Index("patient_change_named", "sequence", "number"),
)

inbound_report = Table(
    "inbound_report",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sequence", Integer, ForeignKey("inbound_message.sequence"), nullable=False),
    Column("accession_number", String(250), nullable=False, index=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("settled", String(40), index=True),
    Column("content", Text, nullable=False),
    sqlite_autoincrement=True,
)

_INDEXES = tuple(
    f"CREATE INDEX IF NOT EXISTS {table}_{name} ON {table} ({columns})"
    for table, name, columns in (
        ("fhir_resource", "patient", "resource_type, patient, resource_id"),
        ("fhir_resource", "status", "resource_type, status, resource_id"),
        ("worklist_line", "centre", "centre, result_id"),
        ("result", "accession", ACCESSION_NUMBER),
    )
)
"""Made when a database is opened, for older databases lack them."""

_WAITING = (
    "DROP INDEX IF EXISTS arrival_due",
    "CREATE INDEX IF NOT EXISTS arrival_waiting ON arrival (due) WHERE looked < change",
)
"""Holds only what waits, which is little; the index of older databases held all."""

_INTO_THE_OUTBOX = (
    """
    CREATE TABLE IF NOT EXISTS delivery_trouble
        (result_id TEXT, destination TEXT, says TEXT, since TEXT, parked INTEGER)
    """,
    """
    INSERT INTO outbox (publication_id, destination, result_id, study_instance_uid, order_key,
                        created, state, turn, queued_turn, strikes, says, since)
    SELECT d.result_id, d.destination, d.result_id, s.study_instance_uid,
           order_key_of_study(s.study_instance_uid),
           r.stored_at, CASE WHEN d.delivered THEN 'delivered' WHEN t.parked THEN 'parked'
           ELSE 'waiting' END, 1, 0, 0, COALESCE(t.says, ''), t.since
    FROM delivery d JOIN study s USING (result_id) JOIN result r USING (result_id)
    LEFT JOIN delivery_trouble t ON t.result_id = d.result_id AND t.destination = d.destination
    ORDER BY r.stored_at
    """,
    "DROP TABLE delivery_trouble",
    "DROP TABLE delivery",
)
"""Takes over what databases of versions 1 and 2 know of deliveries; the oldest know no trouble."""

_APPEND_ONLY = tuple(
    f"CREATE TRIGGER IF NOT EXISTS audit_leaf_no_{verb.lower()} BEFORE {verb} ON audit_leaf "
    "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)


def open_engine(path: Path) -> Engine:
    """Open the database file, making it and its tables if they are not there.

    Every commit is durable: write-ahead log, ``synchronous=FULL``.

    Raises
    ------
    InvalidSettings
        If the file cannot be opened, or was written by another version of radcds.
    """
    engine = create_engine(f"sqlite:///{path}", execution_options={"turn": threading.Lock()})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _begin)
    try:
        with _alone(path), engine.begin() as connection:
            metadata.create_all(connection)
            for statement in (*_INDEXES, *_WAITING, *_APPEND_ONLY):
                connection.exec_driver_sql(statement)
            if inspect(connection).has_table("delivery"):
                _take_over_deliveries(connection)
            version = connection.scalar(select(schema_version.c.version))
            if version is None:
                connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
                version = SCHEMA_VERSION
    except DatabaseError as error:
        msg = f"data_dir: {path} cannot be used as a database ({error.orig})"
        raise InvalidSettings(msg) from error
    except OSError as error:
        msg = f"data_dir: {path.parent} cannot be written ({error.strerror})"
        raise InvalidSettings(msg) from error
    if version not in {SCHEMA_VERSION, *_UPGRADED_IN_PLACE}:
        msg = (
            f"data_dir: {path} has schema {version}, this release needs {SCHEMA_VERSION}; "
            "use the release that wrote it, or another folder"
        )
        raise InvalidSettings(msg)
    return engine


def _take_over_deliveries(connection: Connection) -> None:
    """Move them to the outbox, in order per study: who issued accession numbers is not known.

    An older release would not see them there, so the database is closed to it.
    """
    sqlite: Any = connection.connection.driver_connection
    sqlite.create_function("order_key_of_study", 1, lambda uid: order_key("", "", uid))
    for statement in _INTO_THE_OUTBOX:
        connection.execute(text(statement))
    older = schema_version.c.version.in_(_UPGRADED_IN_PLACE)
    connection.execute(update(schema_version).where(older).values(version=SCHEMA_VERSION))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time make the database: switching to the write-ahead log cannot wait."""
    with path.with_suffix(".opening").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _begin(connection: Connection) -> None:
    """Take the write lock at once, or not at all: a reader that later writes could not wait."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _on_connect(connection: object, _: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
