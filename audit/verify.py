"""Checks a ledger offline, from its stored bytes and its public keys alone.

It reads every line of every chain and every checkpoint, goes on after a fault, and says what is
wrong and where. Roots and digests are computed, never read. What it cannot tell is in `LIMITS`,
and printed with every result.
"""

from __future__ import annotations

from pathlib import Path

from audit.checkpoint import newest_index
from audit.verify_chains import LIMITS, Fault, Report, read_chains
from audit.verify_heads import check_heads, read_checkpoints
from audit.verify_retention import check_retention
from audit.verify_vault import Before, check_vault

__all__ = ["LIMITS", "Fault", "Report", "verify"]


def verify(directory: Path, *, key: str | None = None, outside_head: bytes | None = None) -> Report:
    """Check the ledger under ``directory``.

    Args:
        directory: the ledger's folder.
        key: the verifier key of its first epoch, kept elsewhere.
        outside_head: a checkpoint of it, kept elsewhere; the ledger must still hold it.

    Raises:
        FileNotFoundError: there is no ledger there.
    """
    report, lacks_record = _verify(directory, (key, outside_head))
    if lacks_record:  # retention may have been at work while we read; what was changed stays so
        report, _ = _verify(directory, (key, outside_head))
    return report


def _verify(directory: Path, outside: tuple[str | None, bytes | None]) -> tuple[Report, bool]:
    """The report, and whether a removal has no record of it."""
    report = Report()
    settled = newest_index(directory)
    before = Before.of(directory)
    chains = read_chains(directory, report)
    check_vault(directory, chains.values(), report, before)
    places = check_heads(read_checkpoints(directory, settled), chains, report, outside)
    return report, check_retention(chains, places, report)
