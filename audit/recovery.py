"""What a start finds of the writers before it: torn tails are set aside, open intents closed.

A chain whose writer is gone is locked by nobody. Whoever finds it adopts it, under the
ledger's lock: the tail after the last whole line goes to quarantine, every intent without an
outcome is closed as ``unknown``, the chain ends with ``chain.closed`` and is sealed to its end.
Nothing but the tail of the last segment is ever touched; any other fault is left for `verify`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from audit.chain import BadLine, digest, read_line
from audit.errors import AuditError
from audit.merkle import leaf_hash
from audit.replay import sealed_ends
from audit.sealer import Leaves, Sealer
from audit.segments import removed_leaf
from audit.stores.store import LedgerStore, Orphan
from audit.writer import ChainHead, Entry, append_now, recovery_id


@dataclass(slots=True)
class Found:
    """What a chain's whole lines say."""

    head: ChainHead
    good_bytes: int
    open_intents: tuple[tuple[str, str, int], ...]
    is_closed: bool
    hashes: tuple[bytes, ...]


def adopt_abandoned(store: LedgerStore, own_chain: str, sealer: Sealer) -> int:
    """Close and seal every chain of ``store`` whose writer is gone; returns how many.

    To be called under the ledger's lock.

    Raises:
        AuditError: a chain could not be closed or sealed.
        OSError: a chain could not be read.
    """
    found: dict[str, Found] = {}
    for name in store.unfinished(own_chain):
        if (chain := _adopt(name, store, sealer.newest_index)) is not None:
            found[name] = chain
    ends = sealed_ends(store, set(found))
    leaves = [
        Leaves(name, ends.get(name, 0), chain.hashes[ends.get(name, 0) :])
        for name, chain in found.items()
        if len(chain.hashes) > ends.get(name, 0)
    ]
    if leaves:
        sealer.seal_locked(leaves)
    for name in found:
        store.mark_finished(name)
    return len(found)


def _adopt(name: str, store: LedgerStore, sealed: int) -> Found | None:
    """The chain ``name``, closed; None if it has a writer, a fault, or nothing in it."""
    orphan = store.orphan(name)
    if orphan is None:
        return None
    try:
        found = _read(name, orphan)
        if found is None or found.is_closed:
            return found
        taken = orphan.sink(found.head.next_seq, found.good_bytes)
        if taken is None:
            return None
        sink, cut = taken
        try:
            head = replace(found.head, sealed=sealed)
            found.head, added = append_now(sink, head, _ending(found, name, cut))
        finally:
            sink.close()
    finally:
        orphan.release()
    found.hashes += added
    return found


def _ending(found: Found, chain: str, cut: int) -> list[Entry]:
    reason = {"reason": "adopted", "cut_bytes": cut}
    entries = [Entry("recovery", recovery_id(found.head), dict(reason))]
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


def _read(chain: str, orphan: Orphan) -> Found | None:
    """The state of a chain; None where anything but its very tail is damaged."""
    found = Found(ChainHead(chain), 0, (), is_closed=False, hashes=())
    intents: dict[str, tuple[str, str, int]] = {}
    hashes: list[bytes] = []
    is_torn = is_after_removed = False
    for block, is_pruned in orphan.blocks():
        if is_torn:
            return None
        *lines, tail = block.split(b"\n")
        is_torn, found.good_bytes = bool(tail), 0
        for number, line in enumerate(lines):
            if is_pruned and (leaf := removed_leaf(line)) is not None:
                found.head = replace(found.head, next_seq=found.head.next_seq + 1)
                is_after_removed = True
                hashes.append(leaf)
                continue
            try:
                members = read_line(line)
                if members.get("prev") != found.head.prev and not is_after_removed:
                    raise BadLine("not the line after the one before")
            except AuditError:
                if number == len(lines) - 1 and not tail:
                    is_torn = True
                    break
                return None
            is_after_removed = False
            found.good_bytes += len(line) + 1
            found.head = ChainHead(chain, found.head.next_seq + 1, digest(line))
            found.is_closed = members.get("kind") == "chain.closed"
            hashes.append(leaf_hash(line))
            _note(members, intents)
    found.open_intents, found.hashes = tuple(intents.values()), tuple(hashes)
    return None if is_torn and not orphan.can_tear else found


def _note(members: dict[str, object], intents: dict[str, tuple[str, str, int]]) -> None:
    match members:
        case {"kind": "egress.intent", "id": str(id_), "decision_id": str(dec), "attempt": int(n)}:
            intents[id_] = (id_, dec, n)
        case {"kind": "egress.outcome", "intent_id": str(id_)}:
            intents.pop(id_, None)
