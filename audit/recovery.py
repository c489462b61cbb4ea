"""What a start finds of the writers before it: torn tails are set aside, open intents closed.

A chain whose writer is gone has no lock on its folder. Whoever finds it adopts it, under the
ledger's lock: the tail after the last whole line goes to quarantine, every intent without an
outcome is closed as ``unknown``, the chain ends with ``chain.closed`` and is sealed to its end.
Nothing but the tail of the last segment is ever touched; any other fault is left for `verify`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from audit.chain import BadLine, digest, read_line
from audit.checkpoint import pending_path
from audit.disk import take_lock
from audit.errors import AuditError
from audit.merkle import leaf_hash
from audit.replay import WAL, sealed_ends
from audit.sealer import Leaves, Sealer
from audit.sinks.file import SUFFIX, FileSink, set_aside
from audit.writer import ChainHead, Entry, append_now

#: Stands in a chain's folder once all of it is sealed, to spare later starts the reading. It is a
#: hint, never evidence.
_DONE: Final = "sealed"


@dataclass(slots=True)
class Found:
    """What a chain's whole lines say."""

    head: ChainHead
    good_bytes: int
    open_intents: tuple[tuple[str, str, int], ...]
    is_closed: bool
    hashes: tuple[bytes, ...]


def adopt_abandoned(ledger: Path, own_chain: str, sealer: Sealer) -> int:
    """Close and seal every chain under ``ledger`` whose writer is gone; returns how many.

    To be called under the ledger's lock.

    Raises:
        AuditError: a chain could not be closed or sealed.
        OSError: a chain could not be read.
    """
    found: dict[str, Found] = {}
    for folder in sorted((ledger / WAL).iterdir()):
        if folder.name == own_chain or not folder.is_dir() or (folder / _DONE).exists():
            continue
        if (chain := _adopt(folder, ledger, sealer.newest_index)) is not None:
            found[folder.name] = chain
    ends = sealed_ends(ledger, set(found))
    leaves = [
        Leaves(name, ends.get(name, 0), chain.hashes[ends.get(name, 0) :])
        for name, chain in found.items()
        if len(chain.hashes) > ends.get(name, 0)
    ]
    if leaves:
        sealer.seal_locked(leaves)
    for name in found:
        pending_path(ledger, name).unlink(missing_ok=True)
        (ledger / WAL / name / _DONE).touch(mode=0o600)
    return len(found)


def _adopt(folder: Path, ledger: Path, sealed: int) -> Found | None:
    """The chain in ``folder``, closed; None if it has a writer, a fault, or nothing in it."""
    lock = take_lock(folder)
    if lock is None:
        return None
    try:
        segments = _segments(folder)
        if not segments:
            _remove_empty(folder)
            return None
        found = _read(folder.name, segments)
        if found is None or found.is_closed:
            return found
        cut = set_aside(segments[-1], found.good_bytes, ledger / "quarantine")
        if found.head.next_seq == 0:  # not even its opening became durable
            _remove_empty(folder)
            return None
    finally:
        os.close(lock)
    sink = FileSink(folder, ledger / "quarantine", found.head.next_seq)
    try:
        head = replace(found.head, sealed=sealed)
        found.head, added = append_now(sink, head, _ending(found, folder.name, cut))
    finally:
        sink.close()
    found.hashes += added
    return found


def _segments(folder: Path) -> list[Path]:
    """The segments with something in them; a trailing empty one was opened and never used."""
    segments = sorted(folder.glob(f"*{SUFFIX}"))
    while segments and segments[-1].stat().st_size == 0:
        segments.pop().unlink()
    return segments


def _remove_empty(folder: Path) -> None:
    """A crash before the first line leaves a folder with nothing in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _ending(found: Found, chain: str, cut: int) -> list[Entry]:
    reason = {"reason": "adopted", "cut_bytes": cut}
    entries = [Entry("recovery", f"rec_{found.head.next_seq}", dict(reason))]
    for intent_id, decision_id, attempt in found.open_intents:
        members = {
            "intent_id": intent_id,
            "decision_id": decision_id,
            "attempt": attempt,
            "sent": "unknown",
            "error_type": "writer_lost",
        }
        entries.append(Entry("egress.outcome", f"out_{intent_id}", dict(members)))
    entries.append(Entry("chain.closed", f"end_{chain}", {"reason": "adopted"}))
    return entries


def _read(chain: str, segments: list[Path]) -> Found | None:
    """The state of a chain; None where anything but its very tail is damaged."""
    found = Found(ChainHead(chain), 0, (), is_closed=False, hashes=())
    intents: dict[str, tuple[str, str, int]] = {}
    hashes: list[bytes] = []
    for segment in segments:
        *lines, tail = segment.read_bytes().split(b"\n")
        found.good_bytes = 0
        for number, line in enumerate(lines):
            try:
                members = read_line(line)
                if members.get("prev") != found.head.prev:
                    raise BadLine("not the line after the one before")
            except AuditError:
                if segment is segments[-1] and number == len(lines) - 1 and not tail:
                    break
                return None
            found.good_bytes += len(line) + 1
            found.head = ChainHead(chain, found.head.next_seq + 1, digest(line))
            found.is_closed = members.get("kind") == "chain.closed"
            hashes.append(leaf_hash(line))
            _note(members, intents)
        if tail and segment is not segments[-1]:
            return None
    found.open_intents, found.hashes = tuple(intents.values()), tuple(hashes)
    return found


def _note(members: dict[str, object], intents: dict[str, tuple[str, str, int]]) -> None:
    match members:
        case {"kind": "egress.intent", "id": str(id_), "decision_id": str(dec), "attempt": int(n)}:
            intents[id_] = (id_, dec, n)
        case {"kind": "egress.outcome", "intent_id": str(id_)}:
            intents.pop(id_, None)
