"""Captured bodies and answers as the ledger tells of them: opened, erased, and cleared away."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from audit.acts import UnfitWord, UnknownRecord, record_acts
from audit.capture_keys import load_private_key
from audit.chain import BadLine, read_line
from audit.replay import WAL
from audit.segments import chain_folders, chain_lines
from audit.vault import (
    ERASURE,
    VAULT,
    Answered,
    Captured,
    CaptureUnreadable,
    answered_of,
    captured_of,
    destroy_capture,
    destroy_drafts,
    erased_of,
    is_overwritten,
    open_answer,
    open_capture,
    ref_of,
    vault_files,
)

#: A capture comes before its intent, an answer before its outcome, by the time of one write. What
#: has had none for so long (seconds) never gets one.
ORPHAN_AFTER_S: Final = 3600.0

_REASON: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(slots=True)
class _Told:
    """What the records say: the capture of each intent, the answers, and what was erased."""

    captured: dict[str, Captured] = field(default_factory=dict)
    decisions: dict[str, str] = field(default_factory=dict)  # of these intents
    answered: dict[str, Answered] = field(default_factory=dict)  # by the capture's name
    erased: set[str] = field(default_factory=set)

    def are_told_of(self) -> Callable[[Path], bool]:
        """Whether a record tells of a file of the vault; of a draft none does."""
        refs = {captured.ref for captured in self.captured.values()}
        answers = {ref for ref, answered in self.answered.items() if answered.answer is not None}

        def is_told_of(path: Path) -> bool:
            told = answers if path.suffix == ".answer" else refs
            return ref_of(path) in told and not path.name.startswith(".")

        return is_told_of


def open_body(ledger: Path, intent_id: str, key_file: Path) -> bytes:
    """The body that left on account of an intent.

    Raises:
        UnknownRecord: there is no such intent, or its body was not captured.
        CaptureUnreadable: it was erased, was changed, or is for another key.
        BadCaptureKey: the file holds no private key.
        OSError: the ledger cannot be read.
    """
    captured, is_erased = _find(ledger, intent_id)
    if is_erased:
        raise CaptureUnreadable("the captured body was erased, and that is on the record")
    return open_capture(ledger / VAULT, captured, load_private_key(key_file))


def open_answer_to(ledger: Path, intent_id: str, key_file: Path) -> bytes:
    """The answer that came to what left on account of an intent, as it came.

    Raises:
        UnknownRecord: there is no such intent, or its answer was not to be kept.
        CaptureUnreadable: it could not be kept, was erased, was changed, or is for another key.
        BadCaptureKey: the file holds no private key.
        OSError: the ledger cannot be read.
    """
    told = _told(ledger)
    captured = told.captured.get(intent_id)
    answered = told.answered.get(captured.ref) if captured is not None else None
    if answered is None:
        raise UnknownRecord("there is no intent of that id whose answer was captured")
    if answered.ref in told.erased:
        raise CaptureUnreadable("the captured answer was erased, and that is on the record")
    return open_answer(ledger / VAULT, answered, load_private_key(key_file))


def erase_body(ledger: Path, keys_dir: Path, intent_id: str, reason: str, by: str) -> int:
    """Record `ERASURE`, and then destroy body and answer of an intent; may be done again.

    The same request may have left several times, up a chain of models: with one of its attempts
    all of them go.

    Returns:
        How many attempts that is.

    Raises:
        UnknownRecord: there is no such intent, or its body was not captured.
        UnfitWord: the reason is no code, or ``by`` no name that a record takes.
        AuditError: that it is erased is not on the record; nothing was destroyed.
        OSError: it is on the record, and could not be destroyed: do it again.
    """
    if not _REASON.fullmatch(reason):
        raise UnfitWord("a reason is a code, as in gdpr_art_17")
    attempts = _attempts(_told(ledger), intent_id)
    details = [
        {"of": id_, "ref": captured.ref, "reason": reason, "by": by}
        for id_, (captured, is_erased) in attempts.items()
        if not is_erased
    ]
    if details:
        record_acts(ledger, keys_dir, ERASURE, details)
    for captured, _ in attempts.values():
        destroy_capture(ledger / VAULT, captured.ref)
        destroy_drafts(ledger / VAULT, captured.ref)
    return len(attempts)


def remove_orphans(ledger: Path, older_than_s: float = ORPHAN_AFTER_S) -> int:
    """Remove captures and answers that no record tells of, and drafts that a crash left.

    Returns:
        The number of captures of which something was removed.

    Raises:
        OSError: the ledger cannot be read, or one of them not be removed.
    """
    is_told_of = _told(ledger).are_told_of()
    before = time.time() - older_than_s
    orphans = set()
    for path in vault_files(ledger):
        if is_told_of(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime <= before or is_overwritten(path):
                path.unlink()
                orphans.add(ref_of(path))
    return len(orphans)


def _find(ledger: Path, intent_id: str) -> tuple[Captured, bool]:
    told = _told(ledger)
    captured = told.captured.get(intent_id)
    if captured is None:
        raise UnknownRecord("there is no intent of that id with a captured body")
    return captured, captured.ref in told.erased


def _attempts(told: _Told, intent_id: str) -> dict[str, tuple[Captured, bool]]:
    """The captures of the request that an intent let leave, and whether each is erased."""
    if intent_id not in told.captured:
        raise UnknownRecord("there is no intent of that id with a captured body")
    decision_id = told.decisions[intent_id]
    return {
        id_: (captured, captured.ref in told.erased)
        for id_, captured in told.captured.items()
        if id_ == intent_id or told.decisions[id_] == decision_id
    }


def _told(ledger: Path) -> _Told:
    told = _Told()
    for folder in chain_folders(ledger / WAL):
        for line in chain_lines(folder):
            if b'"vault"' not in line and b'"erasure"' not in line:
                continue
            with contextlib.suppress(BadLine):
                members = read_line(line)
                if (captured := captured_of(members)) is not None:
                    told.captured[str(members.get("id"))] = captured
                    told.decisions[str(members.get("id"))] = str(members.get("decision_id"))
                if (answered := answered_of(members)) is not None:
                    told.answered[answered.ref] = answered
                if (ref := erased_of(members)) is not None:
                    told.erased.add(ref)
    return told
