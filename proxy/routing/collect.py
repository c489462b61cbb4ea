"""Graded exchanges for calibration and evaluation: from answers on record, or by asking at home.

It asks the local tier and nobody else. A cloud answer comes from the data file: whoever wants fresh
ones sends the questions through a running proxy, whose policy and ledger then hold for them too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy.errors import SettingsError
from proxy.ids import new_id
from proxy.local.backend import LocalBackend
from proxy.prices import Prices
from proxy.routes.logprobs import read_logprobs
from proxy.routing.committing import AFTER_TOKENS, score_of_beginning
from proxy.routing.estimator import ConfidenceEstimator
from proxy.routing.features import features_of
from proxy.routing.grading import is_correct
from proxy.routing.rows import Graded, Item
from proxy.types import Caller, Draft, Request

_NOBODY = Caller("calibration", "operations", "offline", "none")

#: Room for a short answer; the same for every question, so that scores compare.
MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Collector:
    """Makes graded exchanges; ``local`` None uses answers on record alone.

    ``judge`` says whether an answer that is not graded on record is right, in place of our rules.
    """

    estimator: ConfidenceEstimator
    local: LocalBackend | None
    prices: Prices = field(default_factory=Prices)
    judge: Callable[[str, Item], Awaitable[bool]] | None = None

    async def collect(self, items: list[Item], done: Progress) -> AsyncIterator[Graded]:
        """The items graded, in order; those that ``done`` holds already are not asked again.

        Raises:
            SettingsError: a row has no local answer, and there is no local tier to ask.
            LocalBackendError: the local tier or the judge failed; what was graded so far is kept.
        """
        for item in items:
            graded = done.find(item.id)
            if graded is None:
                graded = await self._grade(item)
                done.keep(graded)
            yield graded

    async def _grade(self, item: Item) -> Graded:
        request = request_of(item)
        draft = await self._draft(item, request)
        confidence = await self.estimator.estimate(request, draft, may_ask=self.local is not None)
        cloud = item.cloud or {}
        said = str(cloud.get("answer", ""))
        return Graded(
            id=item.id,
            score=confidence.score,
            has_doubts=bool(confidence.doubts),
            local_correct=await self._right(item.local, draft.text, item),
            cloud_correct=await self._right(cloud, said, item) if cloud else None,
            local_ms=draft.elapsed_ms,
            cloud_ms=number_of(cloud, "elapsed_ms"),
            cloud_cost_usd=cost_of(cloud, self.prices),
            features=features_of(request, draft),
            begun=score_of_beginning(confidence.estimator, draft, AFTER_TOKENS),
        )

    async def _right(self, record: Mapping[str, Any] | None, said: str, item: Item) -> bool:
        if self.judge is None or (record and record.get("correct") is not None):
            return graded_right(record, said, item)
        return await self.judge(said, item)

    async def _draft(self, item: Item, request: Request) -> Draft:
        if item.local is not None:
            return recorded_draft(item.local)
        if self.local is None:
            raise SettingsError(f"{item.id}: no local answer on record, and no local tier to ask")
        return await self.local.generate(request)


class Progress:
    """What is graded already, one JSON object a line: scores and grades, never a word."""

    def __init__(self, path: Path | None, made_for: str) -> None:
        self._path = path
        self._made_for = made_for
        self._is_torn = False  # whether the last line is one that a killed run began
        self._found = dict(self._read())

    def find(self, name: str) -> Graded | None:
        """The exchange with this id, if it is graded."""
        return self._found.get(name)

    def keep(self, graded: Graded) -> None:
        """Remember ``graded``, at once."""
        if self._path is not None:
            line = json.dumps({"for": self._made_for, **asdict(graded)}, sort_keys=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(("\n" if self._is_torn else "") + line + "\n")
            self._is_torn = False

    def _read(self) -> Iterator[tuple[str, Graded]]:
        """What the file holds for the same model, estimator and data; a torn line is left out."""
        if self._path is None or not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        self._is_torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                raw = json.loads(line)
                if raw.pop("for") == self._made_for:
                    graded = Graded(**raw)
                    yield graded.id, graded
            except (ValueError, TypeError, KeyError, AttributeError):
                continue


def recorded_draft(record: Mapping[str, Any]) -> Draft:
    """The draft in a row's ``local`` member: ``answer``, ``logprobs`` in OpenAI's form, times."""
    told = read_logprobs(record.get("logprobs"))
    answer = str(record.get("answer", ""))
    return Draft(
        text=answer,
        tokens=told.tokens,
        token_logprobs=told.logprobs,
        finish_reason=str(record.get("finish_reason", "stop")),
        model=str(record.get("model", "")),
        body={},
        prompt_tokens=0,
        completion_tokens=len(told.tokens),
        elapsed_ms=number_of(record, "elapsed_ms"),
        top_logprobs=told.top,
    )


def cost_of(cloud: Mapping[str, Any], prices: Prices) -> float | None:
    """What a row's ``cloud`` answer cost, in US dollars: as recorded, else its tokens by price.

    None where neither is known. ``destination`` may be left out where all ask the same.
    """
    match cloud:
        case {"cost_usd": int() | float() as recorded} if recorded >= 0:
            return float(recorded)
        case {"model": str(model), "prompt_tokens": int(p), "completion_tokens": int(c)}:
            where = cloud.get("destination")
            price = prices.anywhere(model) if where is None else prices.find(str(where), model)
            return float(price.of(p, c)) if price and 0 < p < 2**24 and 0 <= c < 2**24 else None
    return None


def request_of(item: Item) -> Request:
    """The question as an app would ask it: one user message, an answer of bounded length."""
    return Request(
        request_id=new_id("req"),
        caller=_NOBODY,
        route="chat.completions",
        model="ringfence",
        body={
            "model": "ringfence",
            "messages": [{"role": "user", "content": item.prompt}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
        },
        stream=False,
        received_at=datetime.now(UTC),
    )


def graded_right(record: Mapping[str, Any] | None, said: str, item: Item) -> bool:
    """The grade on record where there is one, else the grade of what was said."""
    known = record.get("correct") if record else None
    return bool(known) if known is not None else is_correct(said, item)


def number_of(record: Mapping[str, Any], name: str) -> float:
    """The number ``name`` of an answer on record; 0 where there is none."""
    value = record.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
