"""The tree: known roots of RFC 9162, and every proof of every size leads to the root."""

from __future__ import annotations

import hashlib

import pytest

from audit.merkle import (
    EMPTY_ROOT,
    BadProof,
    Edge,
    leaf_hash,
    node_hash,
    prove,
    root_from_proof,
    root_of,
)

LEAVES = [leaf_hash(bytes([number])) for number in range(20)]


def test_roots_of_small_trees() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert root_of(LEAVES[:1]) == LEAVES[0]
    left = node_hash(LEAVES[0], LEAVES[1])
    assert root_of(LEAVES[:3]) == node_hash(left, LEAVES[2])


@pytest.mark.parametrize("size", range(1, 21))
def test_every_proof_leads_to_the_root_and_no_other_leaf_does(size: int) -> None:
    leaves = LEAVES[:size]
    root = root_of(leaves)
    for index in range(size):
        proof = prove(leaves, index)
        assert root_from_proof(leaves[index], index, size, proof) == root
        assert root_from_proof(leaf_hash(b"other"), index, size, proof) != root


def test_refuses_a_proof_of_the_wrong_length_or_place() -> None:
    proof = prove(LEAVES, 3)
    for wrong in (proof[:-1], [*proof, proof[0]]):
        with pytest.raises(BadProof):
            root_from_proof(LEAVES[3], 3, len(LEAVES), wrong)
    with pytest.raises(BadProof, match="outside"):
        root_from_proof(LEAVES[3], 20, 20, proof)


def test_an_edge_kept_and_grown_is_the_edge_of_all_leaves() -> None:
    edge = Edge()
    for leaf in LEAVES[:7]:
        edge.append(leaf)
    copy = edge.copy()
    for leaf in LEAVES[7:]:
        copy.append(leaf)
    assert copy.root() == root_of(LEAVES)
    assert edge.root() == root_of(LEAVES[:7])
