"""What left and came back is told with its records, in the order in which it left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from audit.capture_keys import load_private_key
from audit.captures import erase_body
from audit.exchanges import exchanges
from audit.vault import CaptureUnreadable
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome
from tests.audit.test_prune import Old, new_id, next_second
from tests.audit.test_query import a_decision
from tests.audit.test_vault import Room
from tests.audit.test_vault import room as room


def exchanged(room: Room, *answers: bytes | None, decided: bool = True) -> list[str]:
    """Record an egress for each answer, kept unless it is None; gives the ids of the intents."""

    async def run() -> list[str]:
        ledger = room.open()
        ids = []
        for answer in answers:
            id_ = new_id()
            if decided:
                decision = a_decision("billing", "PERSON", "cloud")
                await ledger.decision(replace(decision, decision_id=id_))
            permit = await ledger.intent(an_intent(id_), b"to " + (answer or b""), ORIGIN)
            await ledger.outcome(an_outcome(permit), answer, keep=answer is not None)
            ids.append(permit.intent_id)
        await ledger.close()
        return ids

    return asyncio.run(run())


def test_each_is_told_with_its_records_and_opens(room: Room) -> None:
    first = exchanged(room, b"one", None)
    second = exchanged(room, b"two")  # another chain, whose name says nothing of its time
    found = exchanges(room.ledger)
    assert [one.intent["id"] for one in found] == [first[0], second[0]]
    key = load_private_key(room.key)
    texts = [one.texts(room.ledger, key) for one in found]
    assert texts == [(b"to one", b"one"), (b"to two", b"two")]
    for one in found:
        assert one.decision is not None
        told = (one.decision["decision_id"], one.outcome["decision_id"])
        assert told == (one.intent["decision_id"],) * 2
        assert (one.is_in(room.ledger), one.is_erased) == (True, False)


def test_an_erased_one_is_told_as_such_and_opens_no_more(room: Room) -> None:
    ids = exchanged(room, b"one", b"two")
    before = exchanges(room.ledger)
    erase_body(room.ledger, room.keys, ids[0], "gdpr_art_17", "jane")
    assert [one.is_erased for one in exchanges(room.ledger)] == [True, False]
    # Read before the erasure, opened after it.
    assert [one.is_in(room.ledger) for one in before] == [False, True]
    with pytest.raises(CaptureUnreadable):
        before[0].texts(room.ledger, load_private_key(room.key))


def test_without_its_decision_it_says_so_and_what_is_removed_is_not_told(room: Room) -> None:
    exchanged(room, b"one")
    old = Old(room.folder, next_second())
    exchanged(room, b"two", decided=False)
    old.prune()
    (left,) = exchanges(room.ledger)
    assert left.decision is None


def test_no_ledger_is_none_that_is_empty(room: Room) -> None:
    with pytest.raises(FileNotFoundError):
        exchanges(room.ledger)
    exchanged(room, None)
    assert exchanges(room.ledger) == []
