"""A hard cap on cloud attempts: a runaway client, or one that forces escalations, hits a wall."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class AttemptLimit:
    """At most ``per_minute`` attempts in any 60 s, counted in this process."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._taken: deque[float] = deque()

    @property
    def has_room(self) -> bool:
        """Whether an attempt could be taken now."""
        self._forget_old()
        return len(self._taken) < self._per_minute

    def take(self) -> bool:
        """Take one attempt; False when the cap is reached."""
        if not self.has_room:
            return False
        self._taken.append(self._clock())
        return True

    def _forget_old(self) -> None:
        horizon = self._clock() - 60.0
        while self._taken and self._taken[0] <= horizon:
            self._taken.popleft()
