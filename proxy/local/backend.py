"""The contract of the local tier: one OpenAI-compatible endpoint on our own premises."""

from __future__ import annotations

from typing import Protocol

from proxy.types import Draft, Request


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
