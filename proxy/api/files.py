"""Files of clients, kept at home: encrypted, for a time, each key its own.

A file is not inspected when it is uploaded, since it goes nowhere: what is made of it (a line of
a batch) is inspected like any request. It must never be shown to another key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.errors import RequestError
from proxy.ids import new_id
from proxy.objects import Quota, Store, opened

KIND: Final = "file"
CONTENT: Final = "file.content"

#: Most that a key may have uploaded; more is refused, since nobody wants a file to vanish.
UPLOADS: Final = Quota(max_objects=1_000, max_bytes=256 * 2**20, drops_oldest=False)

MAX_NAME_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class File:
    """What is known of a file; times in whole seconds (Unix)."""

    id: str
    name: str = field(repr=False)
    purpose: str
    num_bytes: int
    created_at: int
    expires_at: int

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }

    def to_bytes(self) -> bytes:
        """For the store."""
        return json.dumps(
            [self.id, self.name, self.purpose, self.num_bytes, self.created_at, self.expires_at]
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> File:
        """From the store."""
        return cls(*json.loads(data))


class Files:
    """The files of all keys; ``owner`` is the id of the key."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def upload(
        self, owner: str, name: str, purpose: str, content: bytes, ttl_s: float | None
    ) -> File:
        """Keep a client's file, for ``ttl_s`` seconds if that is less than the store's time.

        Raises:
            RequestError: ``invalid_value``: an empty file, or no usable name.
            StoreFull: the key has too many, or too large ones.
        """
        if not content:
            raise RequestError("The file is empty.", code="invalid_value", param="file")
        if not 1 <= len(name) <= MAX_NAME_CHARS:
            message = f"The file's name must hold 1 to {MAX_NAME_CHARS} characters."
            raise RequestError(message, code="invalid_value", param="file")
        file = self._new(new_id("file"), name, purpose, len(content), ttl_s)
        await self._keep(owner, file, content, UPLOADS)
        return file

    async def write(
        self, owner: str, id_: str, name: str, content: bytes, ttl_s: float | None
    ) -> None:
        """Keep what a batch made, under an id of our own; a second time, in place of the first."""
        file = self._new(id_, name, "batch_output", len(content), ttl_s)
        await self._keep(owner, file, content, None)  # bounded where it is made

    async def show(self, owner: str, id_: str, param: str = "file_id") -> File:
        """One file, which parameter ``param`` names.

        Raises:
            RequestError: ``file_not_found`` (404), for another key's as for an unknown one.
        """
        data = await opened(self._store).get(KIND, owner, id_)
        if data is None:
            raise file_not_found(param)
        return File.from_bytes(data)

    async def content(self, owner: str, id_: str) -> bytes:
        """The bytes of a file.

        Raises:
            RequestError: ``file_not_found`` (404).
        """
        content = await opened(self._store).get(CONTENT, owner, id_)
        if content is None:
            raise file_not_found()
        return content

    async def all(self, owner: str) -> list[File]:
        """Every file of a key, the oldest first."""
        kept = await opened(self._store).all(KIND, owner)
        return [File.from_bytes(data) for _, data in kept]

    async def forget(self, owner: str, id_: str) -> None:
        """Delete a file.

        Raises:
            RequestError: ``file_not_found`` (404).
        """
        store = opened(self._store)
        is_there = await store.delete(KIND, owner, id_)
        if not await store.delete(CONTENT, owner, id_) and not is_there:
            raise file_not_found()

    def kept_s(self, ttl_s: float | None) -> float:
        """For how long a file is kept whose owner wants it for ``ttl_s`` seconds."""
        most = opened(self._store).ttl_s
        return most if ttl_s is None else min(most, ttl_s)

    def _new(self, id_: str, name: str, purpose: str, num_bytes: int, ttl_s: float | None) -> File:
        now = self._clock()
        ends = now + self.kept_s(ttl_s)
        return File(id_, name, purpose, num_bytes, int(now), int(ends))

    async def _keep(self, owner: str, file: File, content: bytes, quota: Quota | None) -> None:
        """The content first, so that no file is listed that cannot be read."""
        store = opened(self._store)
        ttl_s = max(0.0, file.expires_at - self._clock())
        await store.put(CONTENT, owner, file.id, content, ttl_s=ttl_s, quota=quota)
        await store.put(KIND, owner, file.id, file.to_bytes(), ttl_s=ttl_s, quota=None)


def file_not_found(param: str = "file_id") -> RequestError:
    """The refusal of an id that this caller has no file for; it echoes no id."""
    return RequestError("No such file.", code="file_not_found", http_status=404, param=param)
