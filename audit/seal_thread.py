"""The thread that has a process's records sealed: every few seconds, and when nothing happens too.

A checkpoint that only comes when there is news does not show a truncation; heartbeats say that
nothing happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from audit.errors import AuditError
from audit.sealer import Sealer
from audit.writer import ChainWriter

#: Longest time a durable record waits for its checkpoint.
SEAL_EVERY_S: Final = 5.0

#: Longest time without a checkpoint when there are no records.
HEARTBEAT_S: Final = 60.0


class SealThread:
    """Seals what `ChainWriter` made durable."""

    def __init__(
        self,
        writer: ChainWriter,
        sealer: Sealer,
        times: tuple[float, float],
        begin_anew: Callable[[], ChainWriter],
    ) -> None:
        """Begin.

        Args:
            writer: whose records are sealed.
            sealer: makes the checkpoints.
            times: longest time between checkpoints with records, and without, in seconds.
            begin_anew: opens a new chain in place of one that another writer took over.
        """
        self._writer = writer
        self._begin_anew = begin_anew
        self._sealer = sealer
        self._every_s, self._heartbeat_s = times
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-seal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is unsealed stays so."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                if self._writer.is_lost:
                    self._writer = self._begin_anew()
                self._writer.probe()
                self.seal_once()
            except AuditError:
                continue  # tried again; the writer refuses records when too many are unsealed

    def seal_once(self) -> None:
        """Seal what waits, or give a heartbeat where one is due.

        Raises:
            AuditError: no checkpoint could be made.
        """
        leaves = self._writer.unsealed()
        if leaves.hashes:
            self._writer.note_sealed(leaves, self._sealer.seal([leaves]).index)
        elif self._sealer.is_due(self._heartbeat_s):
            self._sealer.seal([])
