"""The audit trail proves itself: any change in it is found."""

import hashlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_schema import open_engine
from cds_server.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from cds_server.errors import AuditUnavailable, InvalidSettings

# The eight leaves of the certificate-transparency reference tests, and their tree heads.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_tree_heads_equal_the_published_vectors() -> None:
    tree = Frontier()
    assert tree.root == EMPTY_ROOT == hashlib.sha256(b"").digest()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.append(leaf_hash(leaf))
        assert tree.root.hex() == root


def recursive(leaves: list[bytes]) -> bytes:
    """RFC 9162 2.1.1, as it is written there."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive(leaves[:split]), recursive(leaves[split:]))


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_growing_tree_equals_the_definition(leaves: list[bytes]) -> None:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    assert tree.root == recursive(leaves)
    assert Frontier(tree.size, tree.subtrees).root == tree.root


def test_a_frontier_that_does_not_fit_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="perfect subtrees"):
        Frontier(3, [b"x" * 32])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "radcds.sqlite"


@pytest.fixture
def trail(path: Path) -> SqlAuditTrail:
    made = SqlAuditTrail(open_engine(path))
    made.record([b'{"event": %d}' % number for number in range(10)])
    return made


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for trigger in ("audit_leaf_no_update", "audit_leaf_no_delete"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE audit_leaf SET content = '{}' WHERE sequence = 4", "event 4 is not as"),
        ("DELETE FROM audit_leaf WHERE sequence = 4", "event 4 is missing"),
        ("DELETE FROM audit_leaf WHERE sequence = 9", "ends at event 8"),
        ("UPDATE audit_leaf SET root = x'00' WHERE sequence = 4", "event 4 is not as"),
        (
            """UPDATE audit_leaf SET (content, leaf_hash) =
            (SELECT content, leaf_hash FROM audit_leaf WHERE sequence = 5) WHERE sequence = 4""",
            "event 4 is not as",
        ),
    ],
)
def test_tampering_is_found_and_the_first_bad_event_named(
    trail: SqlAuditTrail, path: Path, statement: str, named: str
) -> None:
    assert trail.verify() == 10
    tamper(path, statement)
    with pytest.raises(AuditUnavailable, match=named):
        trail.verify()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_leaf SET content = ''", "DELETE FROM audit_leaf"]
)
def test_the_database_itself_refuses_to_change_an_event(
    trail: SqlAuditTrail, path: Path, statement: str
) -> None:
    with (
        pytest.raises(IntegrityError, match="append-only"),
        open_engine(path).begin() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert trail.verify() == 10


WRITER = """
import sys
from pathlib import Path
from cds_server.adapters.sql_audit_trail import SqlAuditTrail
from cds_server.adapters.sql_schema import open_engine
trail = SqlAuditTrail(open_engine(Path(sys.argv[1])))
for number in range(int(sys.argv[2])):
    trail.record([b'{"n": %d}' % number])
    print(number, flush=True)
"""


def test_two_processes_append_to_one_chain(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, "40"], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert SqlAuditTrail(open_engine(path)).verify() == 80


def test_what_was_acknowledged_before_kill_9_is_there_and_verifies(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, "100000"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = -1
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            acknowledged = int(writer.stdout.readline())
        writer.kill()
    assert SqlAuditTrail(open_engine(path)).verify() > acknowledged


def test_a_database_of_another_version_is_refused(path: Path) -> None:
    open_engine(path).dispose()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE schema_version SET version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(InvalidSettings, match="schema 99"):
        open_engine(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(InvalidSettings, match="cannot be used as a database"):
        open_engine(path)
