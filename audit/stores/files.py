"""The form of the files: a folder that the processes of one machine share (docs/record-format.md).

Locks are taken on folders: what holds a lock is an open descriptor, not a file that can be deleted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from audit.checkpoint import TLOG, head_path, newest_index, pending_path
from audit.disk import locked, make_folder, publish, replace_file, set_aside, take_lock
from audit.epochs import epoch_notes, epoch_path
from audit.keys import FolderKeys
from audit.replay import WAL, head_notes
from audit.segments import Segment, chain_leaves, read_segment, segments_of
from audit.sinks.file import SUFFIX, FileSink
from audit.sinks.sink import AuditSink
from audit.stores.store import Orphan, SealedNote

#: Stands in a chain's folder once all of it is sealed, to spare later starts the reading.
_DONE: Final = "sealed"
_HINT: Final = "edge.json"
_QUARANTINE: Final = "quarantine"


class FileStore:
    """A ledger in ``folder``, its private keys in ``keys_dir``, outside of it."""

    def __init__(self, folder: Path, keys_dir: Path) -> None:
        self._folder = folder
        self.keys = FolderKeys(keys_dir)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock that every process of the ledger shares."""
        return locked(self._folder / TLOG)

    def open_chain(self, chain: str) -> AuditSink:
        """A sink on the chain's folder, which it locks."""
        return FileSink(self._folder / WAL / chain, self._folder / _QUARANTINE)

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        return newest_index(self._folder)

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        return head_path(self._folder, index).read_bytes()

    def head_notes(self, *, newest_first: bool = False) -> Iterator[bytes]:
        """Every checkpoint, unchecked."""
        return head_notes(self._folder, newest_first=newest_first)

    def hint(self) -> bytes:
        """The hint that was kept with the newest checkpoint."""
        with contextlib.suppress(FileNotFoundError):
            return (self._folder / TLOG / _HINT).read_bytes()
        return b""

    def publish_head(self, sealed: SealedNote) -> None:
        """Keep a checkpoint, durably; it fails where its index is taken."""
        publish(head_path(self._folder, sealed.index), sealed.note)
        with contextlib.suppress(OSError):  # a hint; the checkpoint stands without it
            replace_file(self._folder / TLOG / _HINT, sealed.hint)

    def publish_end(self, chain: str, sink: AuditSink, line: bytes, sealed: SealedNote) -> None:
        """Append a chain's last line and keep its checkpoint.

        The checkpoint is durable before the line and published after it, so that a closed chain
        without a checkpoint is never the work of a crash.
        """
        waiting = pending_path(self._folder, chain)
        make_folder(waiting.parent)
        replace_file(waiting, sealed.note)
        sink.append([line])
        self.publish_head(sealed)
        waiting.unlink()

    def epoch_notes(self) -> list[bytes]:
        """The notes that introduce the public keys, in order."""
        return epoch_notes(self._folder)

    def publish_epoch(self, number: int, note: bytes) -> None:
        """Keep the note that introduces a public key."""
        publish(epoch_path(self._folder, number), note, mode=0o644)

    def chain_leaves(self, chain: str) -> Sequence[bytes]:
        """The leaf hashes of a chain's records."""
        return chain_leaves(self._folder / WAL / chain)

    def unfinished(self, own_chain: str) -> list[str]:
        """The chains, but ``own_chain``, that may want adopting."""
        return [
            folder.name
            for folder in sorted((self._folder / WAL).iterdir())
            if folder.name != own_chain and folder.is_dir() and not (folder / _DONE).exists()
        ]

    def orphan(self, chain: str) -> Orphan | None:
        """Take a chain that nobody has locked."""
        folder = self._folder / WAL / chain
        lock = take_lock(folder)
        if lock is None:
            return None
        orphan = FileOrphan(folder, self._folder / _QUARANTINE, lock)
        if orphan.is_empty:
            orphan.release()
            return None
        return orphan

    def mark_finished(self, chain: str) -> None:
        """Remember that a chain is closed and sealed to its end."""
        pending_path(self._folder, chain).unlink(missing_ok=True)
        (self._folder / WAL / chain / _DONE).touch(mode=0o600)

    def close(self) -> None:
        """There is nothing to let go of."""


class FileOrphan:
    """A chain's folder, locked by ``lock``."""

    can_tear = True

    def __init__(self, folder: Path, quarantine: Path, lock: int) -> None:
        self._folder = folder
        self._quarantine = quarantine
        self._lock: int | None = lock
        self._segments = segments_of(folder)
        while self._segments and self._is_unused(self._segments[-1]):
            self._segments.pop().path.unlink()
        if self.is_empty:
            self._remove()

    @property
    def is_empty(self) -> bool:
        """Whether a crash left it before its first line, or all of it is pruned."""
        return all(segment.is_pruned for segment in self._segments)

    def blocks(self) -> Iterator[tuple[bytes, bool]]:
        """The lines of the segments, and whether hashes may stand in them for records."""
        for segment in self._segments:
            now, lines = read_segment(segment)
            yield lines, now.is_pruned

    def sink(self, next_seq: int, good_bytes: int) -> tuple[AuditSink, int] | None:
        """Cut the last segment at ``good_bytes``, and append to the chain."""
        cut = set_aside(self._segments[-1].path, good_bytes, self._quarantine)
        if next_seq == 0:  # not even its opening became durable
            self._remove()
            return None
        self.release()  # for the sink to take; nobody else adopts, under the ledger's lock
        return FileSink(self._folder, self._quarantine, next_seq), cut

    def release(self) -> None:
        """Let go of the folder's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @staticmethod
    def _is_unused(segment: Segment) -> bool:
        """Whether it was opened, and nothing was written to it."""
        return segment.suffix == SUFFIX and segment.path.stat().st_size == 0

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.rmdir()
