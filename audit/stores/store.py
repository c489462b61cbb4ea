"""What the writing side of a ledger needs of the place it stands in.

Verification never uses this: it reads the form of the files, from which every other form is made
byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from audit.sinks.sink import AuditSink


@dataclass(frozen=True, slots=True)
class SealedNote:
    """A checkpoint to be kept: its index, the signed note, and a hint for the next writer."""

    index: int
    note: bytes
    hint: bytes


class KeyStore(Protocol):
    """Private keys by name: 32 bytes each, never beside the records."""

    def load(self, name: str) -> bytes | None:
        """The key, None where there is none that can be read."""
        ...

    def load_or_make(self, name: str) -> bytes:
        """The key, made if it is not there; safe among several processes.

        Raises:
            LedgerUnwritable: it cannot be read or made.
        """
        ...

    def put(self, name: str, key: bytes) -> None:
        """Keep ``key``, durably, in the place of what had the name.

        Raises:
            OSError, LedgerUnwritable: it is not kept.
        """
        ...

    def erase_before(self, prefix: str, name: str) -> None:
        """Erase the keys of ``prefix`` whose names sort before ``name``."""
        ...

    def destroy(self, name: str) -> None:
        """Destroy the digest key ``name`` of a past month, for good; may be done again.

        Raises:
            KeyKept: it is no key of a past month, or there never was one.
            OSError, LedgerUnwritable: it could not be destroyed.
        """
        ...


class Orphan(Protocol):
    """A chain whose writer is gone, held by whoever adopts it."""

    #: Whether a crash can leave half a line at its end.
    can_tear: bool

    def blocks(self) -> Iterator[tuple[bytes, bool]]:
        """The stored lines, each with its line feed, in blocks; a last one may be torn.

        With each block: whether its records may have given way to their hashes.
        """
        ...

    def sink(self, next_seq: int, good_bytes: int) -> tuple[AuditSink, int] | None:
        """Set aside what the last block holds past ``good_bytes``, and give what appends to it.

        Returns:
            The sink, which the caller closes, and the bytes set aside; None where no record is
            left, and so no chain.
        """
        ...

    def release(self) -> None:
        """Let go of it."""
        ...


class LedgerStore(Protocol):
    """The place of one ledger, shared by many writers. Faults: OSError or LedgerUnwritable."""

    @property
    def keys(self) -> KeyStore:
        """The private keys."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock that all writers share; for sealing, opening and adopting."""
        ...

    def open_chain(self, chain: str) -> AuditSink:
        """Begin a chain; it is held by its sink."""
        ...

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        ...

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        ...

    def head_notes(self, *, newest_first: bool = False) -> Iterator[bytes]:
        """Every checkpoint, unchecked."""
        ...

    def hint(self) -> bytes:
        """The hint that was kept with the newest checkpoint; empty where there is none."""
        ...

    def publish_head(self, sealed: SealedNote) -> None:
        """Keep a checkpoint, durably; none of its index may be there."""
        ...

    def publish_end(self, chain: str, sink: AuditSink, line: bytes, sealed: SealedNote) -> None:
        """Append a chain's last line and keep its checkpoint, so that neither is left alone."""
        ...

    def epoch_notes(self) -> list[bytes]:
        """The notes that introduce the public keys, in order; BadNote where one is missing."""
        ...

    def publish_epoch(self, number: int, note: bytes) -> None:
        """Keep the note that introduces a public key."""
        ...

    def chain_leaves(self, chain: str) -> Sequence[bytes]:
        """The leaf hashes of a chain's records."""
        ...

    def unfinished(self, own_chain: str) -> list[str]:
        """The chains, but ``own_chain``, that may want adopting."""
        ...

    def orphan(self, chain: str) -> Orphan | None:
        """Take a chain whose writer is gone; None if it has a writer, or nothing in it."""
        ...

    def mark_finished(self, chain: str) -> None:
        """Remember that a chain is closed and sealed to its end: a hint, never evidence."""
        ...

    def close(self) -> None:
        """Let go of what the store holds."""
        ...
