"""The contract of a sink: it takes lines and returns when they are durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class AuditSink(Protocol):
    """Keeps the lines of one chain."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Make ``lines`` durable, all of them or none that counts.

        Raises:
            LedgerUnwritable: at least one of them is not durable. What was written of them is set
                aside; the next `append` starts afresh.
        """
        ...

    def landed(self) -> tuple[bytes, ...]:
        """Of the lines that `append` refused: those that turned out to stand all the same.

        To be asked after a fault, before the next `append`. A line that stands cannot be taken back
        everywhere; the chain goes on behind it.

        Raises:
            LedgerUnwritable: it cannot be told yet.
            ChainLost: another writer went on with the chain.
        """
        ...

    def close(self) -> None:
        """Let go of the chain."""
        ...
