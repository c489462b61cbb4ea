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
    report = Report()
    settled = newest_index(directory)
    chains = read_chains(directory, report)
    check_heads(read_checkpoints(directory, settled), chains, report, (key, outside_head))
    return report
