"""The ledger as its users see it: decisions, intents that give permits, outcomes.

Each call returns only when its record is durable. The event loop never waits for the disk: records
are written by a thread, in groups.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from audit.disk import disk_faults, make_folder
from audit.errors import AuditError, LedgerUnwritable
from audit.keys import load_or_make_key
from audit.permit import Permit, mint
from audit.record import DecisionRecord, EventRecord, IntentRecord, OutcomeRecord, fields_of
from audit.recovery import adopt_abandoned
from audit.replay import WAL
from audit.seal_thread import HEARTBEAT_S, SEAL_EVERY_S, SealThread
from audit.sealer import Leaves, Sealer, locked_ledger
from audit.sinks.file import FileSink
from audit.writer import ChainHead, ChainWriter, Entry, append_now

_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Ledger:
    """The records of one process: one chain in a folder that many processes share."""

    def __init__(
        self, writer: ChainWriter, sealer: SealThread, keys: tuple[Path, Sealer], chain: str
    ) -> None:
        self._writer = writer
        self._seal_thread = sealer
        self._keys_dir, self._sealer = keys
        self._open_intents: dict[str, dict[str, str | int]] = {}
        self.chain = chain

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        keys_dir: Path,
        deployment: str = "ringfence",
        seal_every_s: float = SEAL_EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> Ledger:
        """Start a new chain under ``directory`` and adopt the chains of writers that are gone.

        The chain's opening is sealed before this returns: no chain that holds an intent can be
        removed unseen.

        Args:
            directory: the ledger's folder; made if it is not there.
            keys_dir: where the digest and signing keys live, outside ``directory``.
            deployment: names this ledger in its checkpoints; fixed for the ledger's life.
            seal_every_s: longest time that a record waits for a checkpoint.
            heartbeat_s: longest time between checkpoints when there are no records.

        Raises:
            LedgerUnwritable: the folder or the keys cannot be written, or what is there does not
                add up. There is no ledger that drops what it cannot write.
        """
        if not _DEPLOYMENT.fullmatch(deployment):
            raise LedgerUnwritable("a deployment's name is made of letters, digits, '.', '_', '-'")
        chain = _new_id("c")
        sealer = Sealer(directory, keys_dir, f"{deployment}/egress")
        with disk_faults("the ledger cannot be opened"):
            make_folder(directory)
            with locked_ledger(directory):
                writer = _open_chain(directory, chain, sealer)
                try:
                    adopt_abandoned(directory, chain, sealer)
                    keyed_digest(keys_dir, b"")
                except BaseException:
                    writer.close()
                    raise
        thread = SealThread(writer, sealer, seal_every_s, heartbeat_s)
        return cls(writer, thread, (keys_dir, sealer), chain)

    @property
    def writable(self) -> bool:
        """Whether the last record could be made durable."""
        return self._writer.is_healthy

    async def decision(self, record: DecisionRecord) -> None:
        """Record a decision.

        Raises:
            AuditError: it is not durable.
        """
        await self._append(record.kind, _new_id("rec"), fields_of(record))

    async def intent(self, record: IntentRecord, body: bytes, origin: str) -> Permit:
        """Record that ``body`` is about to go to ``origin``, and give the permit for it.

        Raises:
            AuditError: the intent is not durable; nothing may leave.
        """
        members = fields_of(record)
        members["body"] = {"hmac": self.keyed_digest(body), "bytes": len(body)}
        intent_id = _new_id("int")
        ids = (intent_id, record.decision_id, record.attempt)
        entry = _entry(record.kind, intent_id, members)
        try:
            await self._durable(entry)
        except asyncio.CancelledError:
            if not entry.done.cancelled():  # the writer has it: it stands, and nobody got a permit
                self._open_intents[intent_id] = _ending(ids, "no", "cancelled")
            raise
        self._open_intents[intent_id] = _ending(ids, "unknown", "not_recorded")
        return mint(ids=ids, body=body, origin=origin)

    async def outcome(self, record: OutcomeRecord) -> None:
        """Record what came of an intent.

        Raises:
            AuditError: it is not durable, or the intent has its outcome already. The intent is
                closed as unknown when the chain is closed.
        """
        ending = self._open_intents.pop(record.intent_id, None)
        if ending is None:
            raise AuditError("an outcome needs an intent that has none")
        try:
            await self._append(record.kind, _new_id("rec"), fields_of(record))
        except AuditError:
            self._open_intents[record.intent_id] = ending
            raise

    async def event(self, kind: str, detail: Mapping[str, str | int | float | bool]) -> None:
        """Record something that happened to the proxy itself.

        Raises:
            AuditError: it is not durable.
        """
        record = EventRecord(kind, tuple(detail.items()))
        await self._append(kind, _new_id("rec"), fields_of(record))

    async def close(self) -> None:
        """Close what is open, end the chain with ``chain.closed``, and seal it to its end."""
        for intent_id, members in list(self._open_intents.items()):
            try:
                await self._append("egress.outcome", f"out_{intent_id}", dict(members))
            except AuditError:
                break  # the next start adopts the chain and closes them
        self._open_intents.clear()
        await asyncio.to_thread(self._close)

    def keyed_digest(self, data: bytes) -> str:
        """``hk-<month>:<hex>``: HMAC-SHA-256 of ``data`` under this month's key.

        Raises:
            LedgerUnwritable: the key cannot be read or made.
        """
        return keyed_digest(self._keys_dir, data)

    def _close(self) -> None:
        self._seal_thread.stop()
        self._writer.stop()
        try:
            end = Entry("chain.closed", _new_id("rec"), {"reason": "stop"})
            self._sealer.seal_closing(*self._writer.last_line(end))
        except AuditError:
            pass  # the next start adopts the chain and closes it
        self._writer.close()

    async def _append(self, kind: str, id_: str, members: dict[str, object]) -> None:
        await self._durable(_entry(kind, id_, members))

    async def _durable(self, entry: Entry) -> None:
        """Return when ``entry`` is durable; a cancelled caller takes it back if it is not begun."""
        done = self._writer.submit(entry)
        if entry.waiter is not None:
            try:
                await entry.waiter
            except asyncio.CancelledError:
                done.cancel()
                raise
        done.result()


def _entry(kind: str, id_: str, members: dict[str, object]) -> Entry:
    waiter = asyncio.get_running_loop().create_future()
    return Entry(kind, id_, members, waiter=waiter)


def keyed_digest(keys_dir: Path, data: bytes) -> str:
    """The keyed digest of ``data`` under this month's key in ``keys_dir``.

    Raises:
        LedgerUnwritable: the key cannot be read or made.
    """
    name = f"hk-{datetime.now(UTC):%Y-%m}"
    key = load_or_make_key(keys_dir / f"{name}.key")
    return f"{name}:{hmac.new(key, data, hashlib.sha256).hexdigest()}"


def _open_chain(directory: Path, chain: str, sealer: Sealer) -> ChainWriter:
    """A new chain whose opening is durable and sealed; under the ledger's lock."""
    sealer.refresh_locked()
    sink = FileSink(directory / WAL / chain, directory / "quarantine")
    try:
        opening = Entry("chain.opened", _new_id("rec"), {"boot": boot_id()})
        start = ChainHead(chain, sealed=sealer.newest_index)
        head, hashes = append_now(sink, start, [opening])
        sealed = sealer.seal_locked([Leaves(chain, 0, hashes)])
    except BaseException:
        sink.close()
        raise
    return ChainWriter(sink, replace(head, sealed=sealed.index))


def _ending(ids: tuple[str, str, int], sent: str, error_type: str) -> dict[str, str | int]:
    """The outcome of an intent that nobody else gives one."""
    intent_id, decision_id, attempt = ids
    return {
        "intent_id": intent_id,
        "decision_id": decision_id,
        "attempt": attempt,
        "sent": sent,
        "error_type": error_type,
    }


def boot_id() -> str:
    """Digest of the kernel's boot id: tells a restarted machine from a restarted process."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        text = "unknown"
    return f"b_{hashlib.sha256(text.encode()).hexdigest()[:28]}"


def _new_id(prefix: str) -> str:
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
