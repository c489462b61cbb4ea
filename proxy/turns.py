"""What many callers want at once, shared between them: things by turns, and room by halves.

A caller is a key of the key table. Whoever asks for much waits for its own; a caller that asks
for little is served as if the others were not there, but for what they hold already.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Things that one caller at a time may hold, handed out fairly (start-time fair queueing).

    Of those who wait, a caller that holds fewest is next, of these the one that has cost least
    since it came; its own requests keep their order. A caller that comes anew begins where the
    least of the others stands, so that neither its absence nor its past counts. Of several things
    the last one is kept for those who want one briefly: it is never long until one comes back.
    Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996, section 2.
    """

    def __init__(self, num_things: int) -> None:
        """``num_things`` is how many there will be; fewer while some are being replaced."""
        self._keeps_one = num_things > 1
        self._free: deque[T] = deque()
        self._waiting: dict[tuple[str, bool], deque[asyncio.Future[T]]] = {}
        self._held: Counter[str] = Counter()
        self._num_long = 0
        self._spent: dict[str, float] = {}

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return sum(len(turns) for turns in self._waiting.values())

    @property
    def num_held(self) -> int:
        """How many things are in use."""
        return self._held.total()

    async def take(self, caller: str, *, brief: bool = True) -> T:
        """Wait for ``caller``'s turn; the thing is its own until `done`."""
        here = (self._spent[one] for one in {*self._held, *(one for one, _ in self._waiting)})
        self._spent[caller] = max(self._spent.get(caller, 0.0), min(here, default=0.0))
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((caller, brief), deque()).append(turn)
        self._hand_out()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave((caller, brief), turn)
            else:  # its turn came just as it left
                self.done(caller, 0.0, brief=brief)
                self.add(turn.result())
            raise

    def done(self, caller: str, cost: float, *, brief: bool = True) -> None:
        """``caller`` no longer holds a thing, and has used it for ``cost``; `add` gives it on."""
        self._spent[caller] += cost
        self._num_long -= not brief
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._hand_out()

    def add(self, thing: T) -> None:
        """Give ``thing`` to the one whose turn it is; to whoever comes, if nobody may have it."""
        self._free.append(thing)
        self._hand_out()
        if not (self._waiting or self._held):  # nobody is here: all begin anew
            self._spent.clear()

    def _hand_out(self) -> None:
        while self._free and (able := [one for one in self._waiting if self._may_have(one)]):
            caller, brief = one = min(able, key=lambda it: (self._held[it[0]], self._spent[it[0]]))
            turn = self._waiting[one][0]
            self._leave(one, turn)
            self._held[caller] += 1
            self._num_long += not brief
            turn.set_result(self._free.popleft())

    def _may_have(self, one: tuple[str, bool]) -> bool:
        others = len(self._free) + self.num_held - self._num_long - 1
        return one[1] or others > 0 or not self._keeps_one

    def _leave(self, one: tuple[str, bool], turn: asyncio.Future[T]) -> None:
        self._waiting[one].remove(turn)
        if not self._waiting[one]:
            del self._waiting[one]


class Room:
    """Room for ``limit`` of something; a caller may take no more than it leaves to the others.

    So one alone has at most half, two that want all have a third each, and the next one to come
    always finds some. ``shared`` False: there is one caller only, and all of it is its own.
    """

    def __init__(self, limit: int, *, shared: bool = True) -> None:
        self._limit = limit
        self._shared = shared
        self._taken: Counter[str] = Counter()
        self._total = 0

    def take(self, caller: str, amount: int = 1) -> bool:
        """Take ``amount`` for ``caller``; False, and nothing taken, where it may not."""
        left = self._limit - self._total - amount
        if left < (self._taken[caller] + amount if self._shared else 0):
            return False
        self._taken[caller] += amount
        self._total += amount
        return True

    def give_back(self, caller: str, amount: int = 1) -> None:
        """``caller`` needs ``amount`` no more."""
        self._total -= amount
        self._taken[caller] -= amount
        if not self._taken[caller]:
            del self._taken[caller]
