"""Holds the vault against what the intents say of it; needs no key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from audit.vault import (
    VAULT,
    Answered,
    Captured,
    CaptureUnreadable,
    answer_path,
    body_path,
    commitment_to,
    key_path,
    ref_of,
    vault_files,
    vault_refs,
)
from audit.verify_chains import ChainFacts, Report


@dataclass(frozen=True, slots=True)
class Before:
    """The captures and answers that were there before the chains were read.

    What is erased while we read may have its record in a chain that was read too early.
    """

    keys: set[str]
    answers: set[str]

    @classmethod
    def of(cls, ledger: Path) -> Before:
        """What is in the vault of ``ledger`` now."""
        return cls(vault_refs(ledger), vault_refs(ledger, ".answer"))


def check_vault(
    ledger: Path, chains: Collection[ChainFacts], report: Report, before: Before
) -> None:
    """Check each captured body, answer and wrapped key against its commitment.

    Args:
        ledger: the ledger's folder.
        chains: what the stored lines say.
        report: takes the faults.
        before: what was there before the chains were read.
    """
    vault = ledger / VAULT
    captures = [capture for chain in chains for capture in chain.captures]
    answers = [answer for chain in chains for answer in chain.answers]
    erasures = {ref for chain in chains for ref in chain.erasures}
    report.num_captured = len(captures)
    report.num_answers = sum(answered.answer is not None for _, _, answered in answers)
    report.num_lost_answers = len(answers) - report.num_answers
    left = {ref_of(path) for path in vault_files(ledger)} if erasures else set()
    for file, line, captured in captures:
        if captured.ref in erasures:
            report.num_erased += 1
            if captured.ref in left:
                report.unfinished_erasures.append(captured.ref)
            continue
        problem = _problem(vault, captured)
        if problem and not _is_just_erased(vault, captured.ref, before.keys):
            report.fault(file, line, problem)
    for file, line, answered in answers:
        if answered.ref not in erasures:
            problem = _answer_problem(vault, answered)
            if problem and not _is_just_erased(vault, answered.ref, before.keys):
                report.fault(file, line, problem)
    told = {captured.ref for _, _, captured in captures}
    kept = {answered.ref for _, _, answered in answers if answered.answer is not None}
    report.num_orphans = len((before.keys - told) | (before.answers - kept - erasures))


def _answer_problem(vault: Path, answered: Answered) -> str:
    """What is wrong with a captured answer; empty where nothing is, or none was kept."""
    if answered.answer is None:
        return ""
    try:
        stored = answer_path(vault, answered.ref).read_bytes()
    except FileNotFoundError:
        return "the captured answer is gone, and no erasure is on record"
    except CaptureUnreadable as error:
        return str(error)
    if commitment_to(stored) != answered.answer:
        return "the captured answer is not the one that was committed to"
    return ""


def _problem(vault: Path, captured: Captured) -> str:
    """What is wrong with a capture; empty where nothing is."""
    try:
        body = body_path(vault, captured.ref).read_bytes()
        key = key_path(vault, captured.ref).read_bytes()
    except FileNotFoundError:
        return "the captured body or its key is gone, and no erasure is on record"
    except CaptureUnreadable as error:
        return str(error)
    if (commitment_to(body), commitment_to(key)) != (captured.body, captured.key):
        return "the captured body or its key is not the one that was committed to"
    return ""


def _is_just_erased(vault: Path, ref: str, before: set[str]) -> bool:
    """Whether its key was there a moment ago and is not: the next check sees it on the record."""
    return ref in before and not key_path(vault, ref).exists()
