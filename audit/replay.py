"""What the sealed log says, read again from its files: the tree at a head, the end of a chain."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

from audit.checkpoint import TLOG, Head, head_indexes, head_path, read_head, text_of
from audit.disk import replace_file
from audit.merkle import Edge, leaf_hash
from audit.note import BadNote
from audit.sinks.file import SUFFIX

WAL: Final = "wal"
_HINT: Final = "edge.json"


def save_hint(ledger: Path, edge: Edge) -> None:
    """Keep the tree's edge, to save the next process a walk. It is checked before it is used."""
    text = json.dumps({"size": edge.size, "hashes": [part.hex() for part in edge.hashes]})
    replace_file(ledger / TLOG / _HINT, text.encode())


def edge_at(ledger: Path, head: Head) -> Edge | None:
    """The edge of the tree that ``head`` commits to; None if the files do not lead to its root.

    Raises:
        OSError: the files cannot be read.
    """
    for edge in (_hinted(ledger), _walked(ledger, head)):
        if edge is not None and edge.size == head.size and edge.root() == head.root:
            return edge
    return None


def _hinted(ledger: Path) -> Edge | None:
    try:
        hint = json.loads((ledger / TLOG / _HINT).read_bytes())
        return Edge(int(hint["size"]), [bytes.fromhex(part) for part in hint["hashes"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _walked(ledger: Path, upto: Head) -> Edge | None:
    edge = Edge()
    heads = takewhile(lambda head: head.index <= upto.index, stored_heads(ledger))
    for leaf in leaves_until(ledger, heads):
        edge.append(leaf)
    return edge


def stored_heads(ledger: Path, *, newest_first: bool = False) -> Iterator[Head]:
    """The checkpoints that can be read, unchecked."""
    indexes = head_indexes(ledger)
    for index in reversed(indexes) if newest_first else indexes:
        try:
            yield read_head(text_of(head_path(ledger, index).read_bytes()))
        except BadNote:
            continue


def sealed_ends(ledger: Path, chains: set[str]) -> dict[str, int]:
    """How many records of each of ``chains`` are sealed."""
    ends: dict[str, int] = defaultdict(int)
    for head in stored_heads(ledger, newest_first=True):
        for run in reversed(head.runs):
            if run.chain in chains and run.chain not in ends:
                ends[run.chain] = run.end
        if len(ends) == len(chains):
            break
    return ends


def leaves_until(ledger: Path, heads: Iterable[Head]) -> list[bytes]:
    """The leaf hashes that ``heads``, from the first on, put into the tree."""
    lines: dict[str, list[bytes]] = {}
    leaves: list[bytes] = []
    for head in heads:
        for run in head.runs:
            if run.chain not in lines:
                stored = chain_lines(ledger / WAL / run.chain)
                lines[run.chain] = [leaf_hash(line) for line in stored]
            leaves += lines[run.chain][run.first : run.end]
    return leaves


def chain_lines(folder: Path) -> Iterator[bytes]:
    """The whole lines of a chain, over its segments."""
    for segment in sorted(folder.glob(f"*{SUFFIX}")):
        yield from segment.read_bytes().split(b"\n")[:-1]
