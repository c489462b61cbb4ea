"""The Merkle tree of RFC 9162 over the ledger's lines: root, growing edge, proof of one record.

A leaf is a stored line, byte for byte. Nothing here trusts a stored hash: whoever checks computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from audit.errors import AuditError

#: Root of the tree without leaves (RFC 9162, section 2.1.1).
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class BadProof(AuditError):
    """A proof does not fit the tree it names."""

    code = "bad_proof"


def leaf_hash(line: bytes) -> bytes:
    """Hash of a leaf. Source: RFC 9162, section 2.1.1."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node. Source: RFC 9162, section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Edge:
    """The right edge of a growing tree: enough to append leaves and to know the root."""

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        """Take one more leaf hash."""
        self.hashes.append(leaf)
        full = self.size
        while full & 1:
            right = self.hashes.pop()
            self.hashes.append(node_hash(self.hashes.pop(), right))
            full >>= 1
        self.size += 1

    def root(self) -> bytes:
        """Root over all leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Edge:
        """An edge that grows on its own."""
        return Edge(self.size, self.hashes)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over ``leaves``, in order."""
    edge = Edge()
    for leaf in leaves:
        edge.append(leaf)
    return edge.root()


def prove(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The inclusion proof of leaf ``index``. Source: RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*prove(leaves[:split], index), root_of(leaves[split:])]
    return [*prove(leaves[split:], index - split), root_of(leaves[:split])]


def root_from_proof(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that ``proof`` leads to. Source: RFC 9162, section 2.1.3.2.

    Raises:
        BadProof: the proof has the wrong length for ``index`` and ``size``.
    """
    if not 0 <= index < size:
        raise BadProof("the proof is for a record outside of its tree")
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise BadProof("the proof is too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise BadProof("the proof is too short")
    return root
