"""Holds the vault against what the intents say of it; needs no key."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from audit.vault import (
    VAULT,
    Captured,
    CaptureUnreadable,
    body_path,
    commitment_to,
    key_path,
)
from audit.verify_chains import ChainFacts, Report


def check_vault(
    ledger: Path, chains: Collection[ChainFacts], report: Report, before: set[str]
) -> None:
    """Check each captured body and wrapped key against its commitment.

    Args:
        ledger: the ledger's folder.
        chains: what the stored lines say.
        report: takes the faults.
        before: the captures that were there before the chains were read. What is erased while we
            read may have its record in a chain that was read too early.
    """
    vault = ledger / VAULT
    captures = [capture for chain in chains for capture in chain.captures]
    erasures = {ref for chain in chains for ref in chain.erasures}
    report.num_captured = len(captures)
    for file, line, captured in captures:
        if captured.ref in erasures:
            report.num_erased += 1
            if key_path(vault, captured.ref).exists() or body_path(vault, captured.ref).exists():
                report.unfinished_erasures.append(captured.ref)
            continue
        problem = _problem(vault, captured)
        if problem and not _is_just_erased(vault, captured.ref, before):
            report.fault(file, line, problem)
    report.num_orphans = len(before - {captured.ref for _, _, captured in captures})


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
