"""What of an exchange is pinned, whole or while its answer is made.

It must never let a word of a pinned answer out before the store knows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proxy.pins.quotes import Growing
from proxy.pins.store import (
    PinStore,
    answer_traces,
    growing_answer,
    growing_pinned,
    pinned_traces,
)
from proxy.routes.registry import ROUTES
from proxy.routes.saying import Said, said_in
from proxy.types import Decision, Inspection, JSONObject, Request, Target


@dataclass(frozen=True, slots=True)
class Pinning:
    """An exchange whose answer may tell in other words what must not leave."""

    pins: PinStore
    inspection: Inspection = field(repr=False)
    decision: Decision
    kept_s: float = 0.0  # for how long its answer can be had again here

    async def remember(self, texts: Sequence[str]) -> None:
        """Pin the exchange with the ``texts`` of its whole answer; durable on return.

        Raises:
            PinStoreError: it could not be pinned.
        """

        def traces() -> Iterator[str]:
            if self.decision.may_leave:
                return answer_traces(self.inspection, texts)
            return pinned_traces(self.inspection, texts, derived=self.is_derived)

        await self.pins.remember(traces, self.decision.decision_id, self.kept_s)

    async def remember_request(self) -> None:
        """Pin what the request brought along (the results of tools), whatever becomes of it.

        Raises:
            PinStoreError: it could not be pinned.
        """
        await self.remember(())

    @property
    def is_derived(self) -> bool:
        """Whether the request stems from a pinned exchange itself."""
        return self.decision.derived_from is not None


class GrowingPin:
    """Pins an answer that is made from now on, so that it is known wherever its reader stops."""

    def __init__(self, pinning: Pinning) -> None:
        self._pinning = pinning
        self._growing: Growing | None = None
        self._heard: list[list[Said]] = []

    def hear(self, chunk: JSONObject) -> None:
        """Take in what the next chunk says."""
        said = list(said_in(chunk))
        if said:
            self._heard.append(said)

    async def remember(self) -> None:
        """Pin what was said up to the end of each chunk; durable on return.

        Raises:
            PinStoreError: it could not be pinned.
        """
        if not self._heard:
            return
        heard, self._heard = self._heard, []
        pinning = self._pinning

        def traces() -> Iterator[str]:
            growing = self._grown()
            for said in heard:
                for order, place, piece in said:
                    growing.say(order, place, piece)
                yield from growing.fresh()

        await pinning.pins.remember(traces, pinning.decision.decision_id, pinning.kept_s)

    async def finish(self) -> None:
        """Pin the exchange with all that was said, as a whole answer is; raises likewise."""
        await self._pinning.remember(self._growing.texts if self._growing is not None else ())

    def _grown(self) -> Growing:
        if self._growing is None:
            of = self._pinning
            self._growing = (
                growing_answer(of.inspection)
                if of.decision.may_leave
                else growing_pinned(of.inspection, derived=of.is_derived)
            )
        return self._growing


async def pin_told(
    pins: PinStore, request: Request, inspection: Inspection, decision: Decision
) -> None:
    """Pin what was told of ``request`` before, at home, if ``decision`` would have it pinned now.

    Raises:
        PinStoreError: it could not be pinned.
    """
    pinning = pinning_of(pins, inspection, decision, Target.LOCAL, request.kept_s)
    if request.told is not None and pinning is not None:
        await pinning.remember(ROUTES[request.route].texts(request.told))


def pinning_of(
    pins: PinStore,
    inspection: Inspection,
    decision: Decision,
    target: Target,
    kept_s: float = 0.0,
) -> Pinning | None:
    """What is to be pinned of an exchange that ``target`` answers, if anything.

    Of a request that may leave masked, that is a local answer, which saw the values. A cloud
    answer knew no more than left already; the values put back into it are found again.
    """
    if decision.may_leave and (not decision.masks or target is Target.CLOUD):
        return None
    return Pinning(pins, inspection, decision, kept_s)
