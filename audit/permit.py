"""The permit: a capability to send exactly these bytes to exactly this origin, once.

Only the ledger makes one, after the intent is durable. It must never be possible to widen, copy or
store one.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from audit.errors import PermitRefused

#: Seconds for which a permit holds. A slow queue between intent and wire must not turn an old
#: permission into a new one.
TTL_S: Final = 30.0

_MINT: Final = object()


class Permit:
    """Leave to send one body to one origin, in one attempt.

    Attributes:
        intent_id: the intent it stands on.
        decision_id: the decision behind the intent.
        attempt: number of the attempt, from 1.
    """

    __slots__ = (
        "_clock",
        "_digest",
        "_lock",
        "_origin",
        "_used",
        "_valid_until",
        "attempt",
        "decision_id",
        "intent_id",
    )

    def __init__(
        self,
        mint: object,
        *,
        ids: tuple[str, str, int],
        body: bytes,
        origin: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if mint is not _MINT:
            raise PermitRefused("only the ledger makes permits")
        self.intent_id, self.decision_id, self.attempt = ids
        self._digest = hashlib.sha256(body).digest()
        self._origin = origin
        self._clock = clock
        self._valid_until = clock() + TTL_S
        self._used = False
        self._lock = threading.Lock()

    def redeem(self, body: bytes, origin: str) -> None:
        """Use the permit up for ``body`` to ``origin`` (``https://host:port``).

        A refused use uses it up as well: whoever shows the wrong bytes gets no second try.

        Raises:
            PermitRefused: used before, too late, or for other bytes or another origin.
        """
        with self._lock:
            used, self._used = self._used, True
        if used:
            raise PermitRefused("the permit was used before")
        if self._clock() > self._valid_until:
            raise PermitRefused("the permit is too old")
        if origin != self._origin:
            raise PermitRefused("the permit is for another destination")
        if not hmac.compare_digest(hashlib.sha256(body).digest(), self._digest):
            raise PermitRefused("the permit is for another body")

    def __repr__(self) -> str:
        return f"Permit(intent_id={self.intent_id!r}, attempt={self.attempt})"

    def __reduce__(self) -> NoReturn:
        raise PermitRefused("a permit cannot be copied")


def mint(
    *,
    ids: tuple[str, str, int],
    body: bytes,
    origin: str,
    clock: Callable[[], float] = time.monotonic,
) -> Permit:
    """Make a permit. For `audit.ledger` alone, once the intent is durable."""
    return Permit(_MINT, ids=ids, body=body, origin=origin, clock=clock)
