"""What left and what came back of it, where both were captured, with the records that say so."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from audit.chain import BadLine, read_line
from audit.replay import WAL
from audit.segments import chain_folders, chain_lines
from audit.vault import (
    VAULT,
    Answered,
    Captured,
    answered_of,
    captured_of,
    erased_of,
    key_path,
    open_answer,
    open_capture,
)

_DECISION: Final = re.compile(rb'\{"v":1,"kind":"decision".*?"decision_id":"([A-Za-z0-9_]{1,80})"')

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An egress whose answer was to be kept. ``decision`` is None where its record is gone."""

    intent: Members
    outcome: Members
    decision: Members | None
    captured: Captured
    answered: Answered
    is_erased: bool

    def is_in(self, ledger: Path) -> bool:
        """Whether its capture is there, not erased."""
        return key_path(ledger / VAULT, self.captured.ref).exists()

    def texts(self, ledger: Path, key: X25519PrivateKey) -> tuple[bytes, bytes]:
        """The body that left, and the answer as it came.

        Raises:
            CaptureUnreadable: one of them was not kept, is gone, was changed, or is for another
                key.
            OSError: one of them cannot be read.
        """
        vault = ledger / VAULT
        return open_capture(vault, self.captured, key), open_answer(vault, self.answered, key)


def exchanges(ledger: Path) -> list[Exchange]:
    """Every egress whose answer was to be kept, in the order in which they left.

    Raises:
        OSError: the ledger cannot be read.
    """
    intents: dict[str, tuple[Members, Captured]] = {}
    outcomes: dict[str, tuple[Members, Answered]] = {}
    erased: set[str] = set()
    for line in _lines(ledger):
        if b'"vault"' not in line and b'"erasure"' not in line:
            continue
        with contextlib.suppress(BadLine):
            members = read_line(line)
            if (captured := captured_of(members)) is not None:
                intents[str(members["id"])] = members, captured
            if (answered := answered_of(members)) is not None:
                outcomes[str(members["intent_id"])] = members, answered
            if (ref := erased_of(members)) is not None:
                erased.add(ref)
    pairs = [
        (*intents[id_], *outcome)
        for id_, outcome in outcomes.items()
        if id_ in intents and intents[id_][1].ref == outcome[1].ref
    ]
    decisions = _decisions(ledger, {str(intent["decision_id"]) for intent, *_ in pairs})
    found = [
        Exchange(
            intent=intent,
            outcome=outcome,
            decision=decisions.get(str(intent["decision_id"])),
            captured=captured,
            answered=answered,
            is_erased=captured.ref in erased,
        )
        for intent, captured, outcome, answered in pairs
    ]
    return sorted(found, key=lambda one: (str(one.intent["time"]), str(one.intent["id"])))


def _decisions(ledger: Path, wanted: set[str]) -> dict[str, Members]:
    found: dict[str, Members] = {}
    for line in _lines(ledger):
        match = _DECISION.match(line)
        if match and match[1].decode() in wanted:
            with contextlib.suppress(BadLine):
                found[match[1].decode()] = read_line(line)
    return found


def _lines(ledger: Path) -> Iterator[bytes]:
    for folder in chain_folders(ledger / WAL):
        yield from chain_lines(folder)
