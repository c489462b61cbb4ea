"""What is known of a batch, and where it is kept: at home, encrypted, for its key alone.

Only the process that runs a batch changes it once it is made; a client's wish to cancel is kept
beside it, so that neither overwrites the other.

Source: platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from proxy.errors import RequestError
from proxy.objects import Quota, Store, StoreFull, opened

KIND: Final = "batch"
_OPEN: Final = "batch.open"
_CANCEL: Final = "batch.cancel"

#: The time OpenAI gives a batch; what is not answered by then is on the list of errors.
WINDOW_S: Final = 24 * 3600
#: Batches that a key may have under way.
MAX_OPEN: Final = 16
_FEW: Final = Quota(max_objects=MAX_OPEN, drops_oldest=False)
#: Batches of a key that are remembered; the oldest go first.
MAX_KEPT: Final = 1_000
#: Most bytes that the answers of one batch may take together.
MAX_OUTPUT_BYTES: Final = 64 * 2**20
#: For how long the answers of a batch outlast its time, to be put together.
_SLACK_S: Final = 3600.0
_TIMES: Final = tuple(
    f"{name}_at"
    for name in "in_progress finalizing completed failed expired cancelling cancelled".split()
)


class Status(enum.StrEnum):
    """OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens."""
        return self in (Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a batch failed: a code and a message of ours; ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many lines there are, how many were answered, how many ended in an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of all answers together."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's form; nothing here is told by what a provider cached or reasoned."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + self.output_tokens,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch; ``owner`` is the id of the key, ``times`` what happened when (Unix, seconds)."""

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    metadata: Mapping[str, str] | None = field(repr=False)
    output_ttl_s: int | None
    status: Status = Status.VALIDATING
    counts: Counts = Counts()
    usage: Usage = Usage()
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[LineError, ...] = ()
    times: Mapping[str, int] = field(default_factory=dict)

    @property
    def lines_kind(self) -> str:
        """The kind under which its lines are kept while it runs."""
        return f"{KIND}.lines.{self.id}"

    def line_ttl_s(self) -> float:
        """For how long a line is kept: until the batch is surely put together."""
        return max(0.0, self.expires_at - time.time()) + _SLACK_S

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's batch object."""
        errors = [
            {"code": one.code, "message": one.message, "line": one.line, "param": one.param}
            for one in self.errors
        ]
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status.value,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{name: self.times.get(name) for name in _TIMES},
            "request_counts": {
                "total": self.counts.total,
                "completed": self.counts.completed,
                "failed": self.counts.failed,
            },
            "usage": self.usage.body,
            "metadata": self.metadata,
        }

    def now(self, status: Status) -> Batch:
        """This batch in its next state."""
        times = {**self.times, f"{status.value}_at": int(time.time())}
        return replace(self, status=status, times=times)

    def to_bytes(self) -> bytes:
        """For the store."""
        kept = {**self.body, "owner": self.owner, "output_ttl_s": self.output_ttl_s}
        return json.dumps(kept).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """From the store."""
        kept = json.loads(data)
        errors = (kept["errors"] or {"data": ()})["data"]
        usage = kept["usage"]
        return cls(
            id=kept["id"],
            owner=kept["owner"],
            endpoint=kept["endpoint"],
            input_file_id=kept["input_file_id"],
            created_at=kept["created_at"],
            expires_at=kept["expires_at"],
            metadata=kept["metadata"],
            output_ttl_s=kept["output_ttl_s"],
            status=Status(kept["status"]),
            counts=Counts(**kept["request_counts"]),
            usage=Usage(usage["input_tokens"], usage["output_tokens"]),
            output_file_id=kept["output_file_id"],
            error_file_id=kept["error_file_id"],
            errors=tuple(LineError(**one) for one in errors),
            times={name: kept[name] for name in _TIMES if kept[name] is not None},
        )


class TooManyBatches(RequestError):
    """The key has as many batches under way as it may."""

    code = "too_many_batches"
    http_status = 429


class Batches:
    """The batches of all keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, wanted: Batch) -> Batch:
        """Keep a new batch; from now on it is run.

        Raises:
            TooManyBatches: the key has enough of them under way.
        """
        store = opened(self._store)
        try:
            # The mark first: it is what counts them, and one without its batch is passed over.
            ttl_s = wanted.line_ttl_s() + _SLACK_S
            await store.put(_OPEN, wanted.owner, wanted.id, b"", ttl_s=ttl_s, quota=_FEW)
        except StoreFull:
            pass
        else:
            await self.save(wanted)
            return wanted
        raise TooManyBatches(f"A key may have {MAX_OPEN} batches under way.")

    async def show(self, owner: str, id_: str) -> Batch:
        """One batch as its client sees it.

        Raises:
            RequestError: ``batch_not_found`` (404), for another key's as for an unknown one.
        """
        batch = await self.load(owner, id_)
        if batch is None:
            raise RequestError(
                "No such batch.", code="batch_not_found", http_status=404, param="batch_id"
            )
        return await self._as_seen(batch)

    async def all(self, owner: str) -> list[Batch]:
        """Every batch of a key, the oldest first."""
        kept = await opened(self._store).all(KIND, owner)
        return [await self._as_seen(Batch.from_bytes(data)) for _, data in kept]

    async def cancel(self, owner: str, id_: str) -> Batch:
        """Ask for the end of a batch; lines under way are finished.

        Raises:
            RequestError: ``batch_not_found`` (404), ``batch_is_over`` (409).
        """
        batch = await self.show(owner, id_)
        if batch.status.is_final:
            message = f"A batch that is {batch.status.value} cannot be cancelled."
            raise RequestError(message, code="batch_is_over", http_status=409)
        if batch.status is not Status.CANCELLING:
            at = str(int(time.time())).encode()
            ttl_s = batch.line_ttl_s()
            await opened(self._store).put(_CANCEL, owner, id_, at, ttl_s=ttl_s)
        return await self.show(owner, id_)

    async def open(self) -> Sequence[tuple[str, str]]:
        """Owner and id of every batch that is to be run, the oldest first."""
        return await opened(self._store).places(_OPEN)

    async def load(self, owner: str, id_: str) -> Batch | None:
        """A batch as it is kept."""
        data = await opened(self._store).get(KIND, owner, id_)
        return None if data is None else Batch.from_bytes(data)

    async def save(self, batch: Batch) -> None:
        """Keep a batch's state: while it runs, and then as long as anything is kept."""
        store = opened(self._store)
        left_s = 0.0 if batch.status.is_final else batch.line_ttl_s() + _SLACK_S
        ttl_s = max(store.ttl_s, left_s)
        quota = Quota(MAX_KEPT)
        await store.put(KIND, batch.owner, batch.id, batch.to_bytes(), ttl_s=ttl_s, quota=quota)

    async def cancelled_at(self, batch: Batch) -> int | None:
        """When its client asked for the end of it."""
        data = await opened(self._store).get(_CANCEL, batch.owner, batch.id)
        return None if data is None else int(data)

    async def close(self, owner: str, id_: str) -> None:
        """Nothing is left to do for a batch."""
        store = opened(self._store)
        await store.delete(_OPEN, owner, id_)
        await store.delete(_CANCEL, owner, id_)

    async def _as_seen(self, batch: Batch) -> Batch:
        if batch.status in (Status.VALIDATING, Status.IN_PROGRESS):
            at = await self.cancelled_at(batch)
            if at is not None:
                times = {**batch.times, "cancelling_at": at}
                return replace(batch, status=Status.CANCELLING, times=times)
        return batch
