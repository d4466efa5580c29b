"""The Merkle tree of the audit trail, as in RFC 9162.

The tree is kept as its *frontier*: the roots of the perfect subtrees that make it up, largest
first. Appending a leaf and computing the root cost O(log n).

References
----------
RFC 9162 section 2.1.1 Merkle Tree Hash.
"""

import hashlib
from collections.abc import Iterable

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    """Hash one leaf: SHA-256 of 0x00 and the content."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256 of 0x01, left and right."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing Merkle tree.

    Parameters
    ----------
    size
        How many leaves it has.
    subtrees
        Roots of its perfect subtrees, the largest first: one per bit that is set in ``size``.

    Raises
    ------
    ValueError
        If the number of subtrees does not fit the size.
    """

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        self._size = size
        self._subtrees = list(subtrees)
        if len(self._subtrees) != size.bit_count():
            msg = f"a tree of {size} leaves has {size.bit_count()} perfect subtrees"
            raise ValueError(msg)

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def subtrees(self) -> tuple[bytes, ...]:
        """Roots of the perfect subtrees, the largest first."""
        return tuple(self._subtrees)

    @property
    def root(self) -> bytes:
        """The tree head: 32 bytes."""
        if not self._subtrees:
            return EMPTY_ROOT
        *others, root = self._subtrees
        for subtree in reversed(others):
            root = node_hash(subtree, root)
        return root

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash, merging equal subtrees."""
        merged = leaf
        size = self._size
        while size & 1:
            merged = node_hash(self._subtrees.pop(), merged)
            size >>= 1
        self._subtrees.append(merged)
        self._size += 1
