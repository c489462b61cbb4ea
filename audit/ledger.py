"""The ledger as its users see it: decisions, intents that give permits, outcomes.

Each call returns only when its record is durable. The event loop never waits for the disk: records
are written by a thread, in groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from audit.disk import disk_faults
from audit.errors import AuditError, LedgerUnwritable
from audit.keys import present_key_name
from audit.permit import Permit, mint
from audit.record import (
    DecisionRecord,
    EventRecord,
    IntentRecord,
    OutcomeRecord,
    ReplayRecord,
    fields_of,
)
from audit.recovery import adopt_abandoned
from audit.seal_thread import HEARTBEAT_S, SEAL_EVERY_S, SealThread
from audit.sealer import Leaves, Sealer
from audit.stores.files import FileStore
from audit.stores.store import KeyStore, LedgerStore
from audit.vault import Answered, Vault
from audit.writer import ChainHead, ChainWriter, Entry, append_now


@dataclass(frozen=True, slots=True)
class _OpenIntent:
    """An intent without an outcome: who writes its chain, the outcome that it gets where nobody
    gives it one, and the name of its capture.
    """

    writer: ChainWriter
    ending: dict[str, str | int]
    ref: str | None


_DEPLOYMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Ledger:
    """The records of one process: one chain in a folder that many processes share."""

    def __init__(
        self,
        writer: ChainWriter,
        where: tuple[LedgerStore, Sealer],
        times: tuple[float, float],
        vault: Vault | None = None,
    ) -> None:
        self._writer = writer
        self._vault = vault
        self._store, self._sealer = where
        self._open_intents: dict[str, _OpenIntent] = {}
        self._seal_thread = SealThread(writer, self._sealer, times, self._begin_anew)

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
        store = FileStore(directory, keys_dir)
        return cls.open_store(store, deployment, seal_every_s, heartbeat_s)

    @classmethod
    def open_store(
        cls,
        store: LedgerStore,
        deployment: str = "ringfence",
        seal_every_s: float = SEAL_EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
        vault: Vault | None = None,
    ) -> Ledger:
        """`open` for a ledger that stands in ``store``, which is closed with it.

        With a ``vault``, every body that leaves is in it, encrypted, before its intent is.
        """
        if not _DEPLOYMENT.fullmatch(deployment):
            raise LedgerUnwritable("a deployment's name is made of letters, digits, '.', '_', '-'")
        sealer = Sealer(store, f"{deployment}/egress")
        with contextlib.ExitStack() as undo:
            undo.callback(store.close)
            with disk_faults("the ledger cannot be opened"), store.locked():
                writer = _open_chain(store, _new_id("c"), sealer)
                undo.callback(writer.close)
                adopt_abandoned(store, writer.chain, sealer)
                keyed_digest(store.keys, b"")
            undo.pop_all()
        return cls(writer, (store, sealer), (seal_every_s, heartbeat_s), vault)

    @property
    def chain(self) -> str:
        """The chain that is written now."""
        return self._writer.chain

    @property
    def writable(self) -> bool:
        """Whether the last record, and the last captured body, could be made durable."""
        return self._writer.is_healthy and (self._vault is None or self._vault.is_healthy)

    async def decision(self, record: DecisionRecord) -> None:
        """Record a decision.

        Raises:
            AuditError: it is not durable.
        """
        await self._append(record.kind, _new_id("rec"), fields_of(record))

    async def intent(self, record: IntentRecord, body: bytes, origin: str) -> Permit:
        """Record that ``body`` is about to go to ``origin``, and give the permit for it.

        Raises:
            AuditError: the intent, or the captured body, is not durable; nothing may leave.
        """
        members = fields_of(record)
        members["body"] = self._body(body)
        ref = None if self._vault is None else _new_id("cap")
        if self._vault is not None and ref is not None:
            captured = await asyncio.to_thread(self._vault.keep, ref, body)
            members["vault"] = asdict(captured)
        intent_id = _new_id("int")
        ids = (intent_id, record.decision_id, record.attempt)
        entry = _entry(record.kind, intent_id, members)
        writer = self._writer
        try:
            await _durable(writer, entry)
        except asyncio.CancelledError:
            if not entry.done.cancelled():  # the writer has it: it stands, and nobody got a permit
                ending = _ending(ids, "no", "cancelled")
                self._open_intents[intent_id] = _OpenIntent(writer, ending, ref)
                entry.done.add_done_callback(partial(self._forget_refused, intent_id))
            raise
        ending = _ending(ids, "unknown", "not_recorded")
        self._open_intents[intent_id] = _OpenIntent(writer, ending, ref)
        return mint(ids=ids, body=body, origin=origin)

    async def outcome(
        self, record: OutcomeRecord, answer: bytes | None = None, *, keep: bool = False
    ) -> None:
        """Record what came of an intent, with size and keyed digest of the ``answer``'s bytes.

        Args:
            record: what came of it.
            answer: the answer as it came; None: none did.
            keep: encrypt the answer to the auditor too, beside its body. That it could not be kept
                is on the record, and no error. Without a vault nothing is kept.

        Raises:
            AuditError: it is not durable, or the intent has its outcome already. The intent is
                closed as unknown when the chain is closed.
        """
        answered = await self._keep(record.intent_id, answer) if keep else None
        open_ = self._open_intents.pop(record.intent_id, None)
        if open_ is None:
            raise AuditError("an outcome needs an intent that has none")
        if open_.writer is not self._writer:
            raise AuditError("the intent's chain was taken over, and the intent closed as unknown")
        try:
            response = None if answer is None else self._body(answer)
            members = {**fields_of(record), "response": response}
            if answered is not None:
                members["vault"] = asdict(answered)
            await _durable(open_.writer, _entry(record.kind, _new_id("rec"), members))
        except AuditError:
            self._open_intents[record.intent_id] = open_
            raise

    def _forget_refused(self, intent_id: str, done: Future[None]) -> None:
        """An intent that was refused after its caller left is its writer's to close, if at all."""
        if done.exception() is not None:
            self._open_intents.pop(intent_id, None)

    async def _keep(self, intent_id: str, answer: bytes | None) -> Answered | None:
        """Keep the answer to an intent beside its body; None where there is nothing to keep."""
        open_ = self._open_intents.get(intent_id)
        if self._vault is None or answer is None or open_ is None or open_.ref is None:
            return None
        try:
            return await asyncio.to_thread(self._vault.keep_answer, open_.ref, answer)
        except Exception:  # noqa: BLE001 - the boundary: no capture costs a client its answer
            return Answered(open_.ref, None)

    async def replay(self, record: ReplayRecord) -> None:
        """Record that an answer is about to be given again.

        Raises:
            AuditError: it is not durable; the answer must not be given.
        """
        await self._append(record.kind, _new_id("rec"), fields_of(record))

    async def event(self, kind: str, detail: Mapping[str, str | int | float | bool]) -> None:
        """Record something that happened to the proxy itself.

        Raises:
            AuditError: it is not durable.
        """
        record = EventRecord(kind, tuple(detail.items()))
        await self._append(kind, _new_id("rec"), fields_of(record))

    async def close(self) -> None:
        """Close what is open, end the chain with ``chain.closed``, and seal it to its end."""
        for intent_id, open_ in list(self._open_intents.items()):
            if open_.writer is not self._writer:
                continue  # whoever adopted its chain closed it
            try:
                await self._append("egress.outcome", f"out_{intent_id}", dict(open_.ending))
            except AuditError:
                break  # the next start adopts the chain and closes them
        self._open_intents.clear()
        await asyncio.to_thread(self._close)

    def keyed_digest(self, data: bytes) -> str:
        """``hk-<month>:<hex>``: HMAC-SHA-256 of ``data`` under this month's key.

        Raises:
            LedgerUnwritable: the key cannot be read or made.
        """
        return keyed_digest(self._store.keys, data)

    def _body(self, data: bytes) -> dict[str, str | int]:
        return {"hmac": self.keyed_digest(data), "bytes": len(data)}

    def _close(self) -> None:
        self._seal_thread.stop()
        self._writer.stop()
        try:
            end = Entry("chain.closed", _new_id("rec"), {"reason": "stop"})
            self._sealer.seal_end(*self._writer.last_line(end))
        except AuditError:
            pass  # the next start adopts the chain and closes it
        self._writer.close()
        self._store.close()

    def _begin_anew(self) -> ChainWriter:
        """Open a new chain in place of one that another writer took over."""
        self._writer.close()
        with disk_faults("the ledger cannot be opened"), self._store.locked():
            self._writer = _open_chain(self._store, _new_id("c"), self._sealer)
            adopt_abandoned(self._store, self.chain, self._sealer)
        return self._writer

    async def _append(self, kind: str, id_: str, members: dict[str, object]) -> None:
        await _durable(self._writer, _entry(kind, id_, members))


async def _durable(writer: ChainWriter, entry: Entry) -> None:
    """Return when ``entry`` is durable; a cancelled caller takes it back if it is not begun."""
    done = writer.submit(entry)
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


def keyed_digest(keys: KeyStore, data: bytes) -> str:
    """The keyed digest of ``data`` under this month's key.

    Raises:
        LedgerUnwritable: the key cannot be read or made.
    """
    name = present_key_name()
    key = keys.load_or_make(f"{name}.key")
    return f"{name}:{hmac.new(key, data, hashlib.sha256).hexdigest()}"


def _open_chain(store: LedgerStore, chain: str, sealer: Sealer) -> ChainWriter:
    """A new chain whose opening is durable and sealed; under the ledger's lock."""
    sealer.refresh_locked()
    sink = store.open_chain(chain)
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
