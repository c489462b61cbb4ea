"""The contract of the local tier: one OpenAI-compatible endpoint on our own premises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from proxy.local.live import LocalStream, Watch
from proxy.types import Draft, Request

#: Names the key whose request it is to the embedded server, and to no other.
CALLER: Final = "x-ringfence-caller"


class LocalBackend(Protocol):
    """Answers a request at home."""

    async def generate(self, request: Request) -> Draft:
        """Answer ``request``.

        Raises:
            LocalBackendError: down, late, or not able (``unable`` tells which).
        """
        ...

    async def probe(self) -> bool:
        """Whether the tier answers at all, right now."""
        ...


class WatchedBackend(LocalBackend, Protocol):
    """A local tier whose answers can be watched while they are written."""

    async def generate_until(self, request: Request, doomed: Callable[[float], bool]) -> Draft:
        """Answer ``request``, or give it up where ``doomed`` says so of a token's log-probability.

        A draft that was given up says so (``is_cut``). Where the endpoint cannot be watched, this
        is `generate`. Raises as `generate` does.
        """
        ...


class FlowingBackend(Protocol):
    """A local tier whose answers can be told while they are written."""

    async def begin(self, request: Request, watch: Watch | None = None) -> Draft | LocalStream:
        """Answer ``request``; the answer flows once it says something, and is to be closed.

        With a ``watch`` it flows only if that commits to it, and is a draft like any other if not.
        Where the endpoint gives no stream that can be read, this is `LocalBackend.generate`.
        Raises as that does.
        """
        ...
