"""An answer that its client gets while it is made, as the stages hand it on.

It is no value, as all of `proxy.types` are: whoever drops it must close it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from proxy.types import JSONObject


class LiveAnswer(Protocol):
    """The chunks of an answer, in the form of its route."""

    def __aiter__(self) -> AsyncIterator[JSONObject]:
        """The chunks; a fault of ours where it breaks off."""
        ...

    def close(self, *, late: bool = False) -> None:
        """End it where it is: nobody waits for it, or it takes too long (``late``)."""
        ...
