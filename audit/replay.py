"""What the sealed log says, read again from its files: the tree at a head, the end of a chain."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from audit.checkpoint import Head, head_indexes, head_path, read_head, text_of
from audit.merkle import Edge
from audit.note import BadNote

if TYPE_CHECKING:
    from audit.stores.store import LedgerStore

WAL: Final = "wal"


def hint_of(edge: Edge) -> bytes:
    """The tree's edge, to save the next process a walk. It is checked before it is used."""
    text = json.dumps({"size": edge.size, "hashes": [part.hex() for part in edge.hashes]})
    return text.encode()


def edge_at(store: LedgerStore, head: Head) -> Edge | None:
    """The edge of the tree that ``head`` commits to; None if what is stored does not lead there.

    Raises:
        OSError, LedgerUnwritable: it cannot be read.
    """
    for find in (_hinted, _walked):
        edge = find(store, head)
        if edge is not None and edge.size == head.size and edge.root() == head.root:
            return edge
    return None


def _hinted(store: LedgerStore, _: Head) -> Edge | None:
    try:
        hint = json.loads(store.hint())
        return Edge(int(hint["size"]), [bytes.fromhex(part) for part in hint["hashes"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _walked(store: LedgerStore, upto: Head) -> Edge | None:
    edge = Edge()
    heads = takewhile(lambda head: head.index <= upto.index, readable(store.head_notes()))
    for leaf in leaves_until(store.chain_leaves, heads):
        edge.append(leaf)
    return edge


def stored_heads(ledger: Path, *, newest_first: bool = False) -> Iterator[Head]:
    """The checkpoints of a folder that can be read, unchecked."""
    return readable(head_notes(ledger, newest_first=newest_first))


def head_notes(ledger: Path, *, newest_first: bool = False) -> Iterator[bytes]:
    """Every checkpoint of a folder as it is stored."""
    indexes = head_indexes(ledger)
    for index in reversed(indexes) if newest_first else indexes:
        yield head_path(ledger, index).read_bytes()


def readable(notes: Iterable[bytes]) -> Iterator[Head]:
    """Those of ``notes`` that can be read, unchecked."""
    for note in notes:
        with contextlib.suppress(BadNote):
            yield read_head(text_of(note))


def sealed_ends(store: LedgerStore, chains: set[str]) -> dict[str, int]:
    """How many records of each of ``chains`` are sealed."""
    ends: dict[str, int] = defaultdict(int)
    for head in readable(store.head_notes(newest_first=True)):
        for run in reversed(head.runs):
            if run.chain in chains and run.chain not in ends:
                ends[run.chain] = run.end
        if len(ends) == len(chains):
            break
    return ends


def leaves_until(leaves_of: Callable[[str], Sequence[bytes]], heads: Iterable[Head]) -> list[bytes]:
    """The leaf hashes that ``heads``, from the first on, put into the tree.

    Args:
        leaves_of: gives the leaf hashes of a chain.
        heads: in order.
    """
    of_chain: dict[str, Sequence[bytes]] = {}
    leaves: list[bytes] = []
    for head in heads:
        for run in head.runs:
            if run.chain not in of_chain:
                of_chain[run.chain] = leaves_of(run.chain)
            leaves += of_chain[run.chain][run.first : run.end]
    return leaves
