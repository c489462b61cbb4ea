"""Pairs from the ledger: what was escalated and harmless, as a cloud answered it.

It runs where the auditor's private key is, never where the proxy runs. A pair has to pass twice:
by what the record says was decided and found when it left, and by what today's detectors find in
question and answer. Whatever does not is left out, and counted by its reason.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from audit.capture_keys import load_private_key
from audit.exchanges import Exchange, Members, exchanges
from audit.vault import CaptureUnreadable
from audit.verify import verify
from proxy.canonical import parse_object
from proxy.errors import RequestError, SettingsError
from proxy.inspection.detector import Inspector
from proxy.inspection.recognizers import NO_RECOGNIZERS
from proxy.learning.pairs import Pair, read_messages
from proxy.policy.decide import Context, decide
from proxy.policy.model import Policy
from proxy.routes.chat import CHAT
from proxy.types import AUTO_MODEL, Action, Caller, Inspection, JSONObject, RouteReason, Target

#: What a body may hold beside its messages. Anything else (tools, stop words, forms) makes of an
#: answer what a pair cannot say. Source: OpenAI API reference, create chat completion.
_PLAIN: Final = frozenset(
    {
        "frequency_penalty",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "presence_penalty",
        "reasoning_effort",
        "seed",
        "stream",
        "temperature",
        "top_logprobs",
        "top_p",
    }
)

#: Why the local model's own answer was not, or would not have been, good enough.
_ESCALATED: Final = frozenset({RouteReason.LOW_CONFIDENCE, RouteReason.PREROUTED})

#: Pairs that are inspected at a time.
_AT_A_TIME: Final = 16


class LeftOut(enum.StrEnum):
    """Why an exchange is no pair, as one code; in the order in which they are asked."""

    ERASED = "erased"
    NOT_KEPT = "not_kept"
    NO_DECISION = "no_decision"
    NOT_ESCALATED = "not_escalated"
    NOT_ALLOWED = "not_allowed"
    FOUND_THEN = "found_then"
    CUT_SHORT = "cut_short"
    UNSURE = "unsure"
    UNREADABLE = "unreadable"
    OTHER_FORM = "other_form"
    REPEATED = "repeated"
    UNREAD_NOW = "unread_now"
    FOUND_NOW = "found_now"
    FORBIDDEN_NOW = "forbidden_now"


@dataclass(frozen=True, slots=True)
class Wish:
    """Which exchanges to take.

    Attributes:
        since: from this time on, as records write theirs; ``until`` is not included. Empty: any.
        app: only what this app asked; empty: any.
        may_hold: entities that may stand in a pair, such as ``LOCATION``.
        policy: would have to let each of them leave today, as it is; None: not asked.
    """

    since: str = ""
    until: str = ""
    app: str = ""
    may_hold: frozenset[str] = frozenset()
    policy: Policy | None = None

    def covers(self, exchange: Exchange) -> bool:
        """Whether it is of the time and the app."""
        time = str(exchange.intent["time"])
        if (self.since and time < self.since) or (self.until and time >= self.until):
            return False
        return not self.app or _caller(exchange.decision).app == self.app


@dataclass(frozen=True, slots=True)
class Harvest:
    """The pairs, in the order in which their questions left, and how many are none, by reason."""

    pairs: tuple[Pair, ...] = field(repr=False)
    left_out: Counter[str]


async def harvest(
    ledger: Path,
    key_file: Path,
    wish: Wish,
    detectors: Callable[[], AbstractAsyncContextManager[Inspector]],
) -> Harvest:
    """The pairs of ``ledger`` that meet ``wish``.

    Args:
        ledger: its folder; it is verified first, since nobody should learn from what was forged.
        key_file: the auditor's private key.
        wish: which ones.
        detectors: opens today's detectors; only where there is something for them.

    Raises:
        SettingsError: the ledger was changed, or ``wish.policy`` lets nobody learn from answers.
        AuditError: the file holds no private key.
        InspectionError: the detectors do not work.
        OSError: the ledger or a capture cannot be read.
    """
    if wish.policy is not None and not wish.policy.content.record.train_on_answers:
        raise SettingsError("the policy does not say `record: {train_on_answers: true}`")
    key = load_private_key(key_file)
    if not (await asyncio.to_thread(verify, ledger)).is_sound:
        raise SettingsError("the ledger was changed: see `ringfence audit verify`")
    ready, left_out = await asyncio.to_thread(_gathered, ledger, key, wish)
    pairs: list[tuple[Exchange, Pair]] = []
    if ready:
        async with detectors() as inspector:
            for some in _in_groups(ready):
                looks = [_why_not_now(*one, wish, inspector) for one in some]
                for one, why in zip(some, await asyncio.gather(*looks), strict=True):
                    if why is None:
                        pairs.append(one)
                    else:
                        left_out[why.value] += 1
    # Inspecting takes its time: what was erased meanwhile is not given out.
    kept = tuple(pair for exchange, pair in pairs if exchange.is_in(ledger))
    left_out += Counter({LeftOut.ERASED.value: len(pairs) - len(kept)})
    return Harvest(kept, left_out)


def _gathered(
    ledger: Path, key: X25519PrivateKey, wish: Wish
) -> tuple[list[tuple[Exchange, Pair]], Counter[str]]:
    """What the records and the form of the texts let be a pair, and the count of the rest."""
    left_out: Counter[str] = Counter()
    ready: list[tuple[Exchange, Pair]] = []
    told: set[tuple[object, str]] = set()
    for exchange in exchanges(ledger):
        if not wish.covers(exchange):
            continue
        pair = _read(exchange, ledger, key, wish)
        if isinstance(pair, Pair) and (pair.messages, pair.answer) in told:
            pair = LeftOut.REPEATED
        if isinstance(pair, LeftOut):
            left_out[pair.value] += 1
        else:
            told.add((pair.messages, pair.answer))
            ready.append((exchange, pair))
    return ready, left_out


def _read(exchange: Exchange, ledger: Path, key: X25519PrivateKey, wish: Wish) -> Pair | LeftOut:
    """The pair that an exchange makes, or why it makes none; nothing is opened in vain."""
    why = why_not(exchange, wish.may_hold)
    if why is not None:
        return why
    try:
        return pair_of(exchange, *exchange.texts(ledger, key)) or LeftOut.OTHER_FORM
    except CaptureUnreadable:
        return LeftOut.UNREADABLE


def why_not(exchange: Exchange, may_hold: frozenset[str] = frozenset()) -> LeftOut | None:
    """Why the records of an exchange keep it from being a pair; None: they do not."""
    decision, outcome = exchange.decision, exchange.outcome
    if exchange.is_erased:
        return LeftOut.ERASED
    if exchange.answered.answer is None:
        return LeftOut.NOT_KEPT
    if decision is None:
        return LeftOut.NO_DECISION
    routing = decision["routing"]
    if routing["route"] != Target.CLOUD or routing["reason"] not in _ESCALATED:
        return LeftOut.NOT_ESCALATED
    if decision["policy"]["action"] != Action.ALLOW or routing["derived_from"] is not None:
        return LeftOut.NOT_ALLOWED
    found = {str(entity) for entity in _entities(decision)} | set(outcome["answer_entities"])
    if found - may_hold or decision["coverage"]["unscannable"]:
        return LeftOut.FOUND_THEN
    if outcome["sent"] != "yes" or outcome["finish_reason"] != "stop":
        return LeftOut.CUT_SHORT
    if _is_unsure(outcome.get("confidence")):
        return LeftOut.UNSURE
    return None


def _is_unsure(told: Members | None) -> bool:
    """Whether the next model of a chain was due after an answer; one that nobody scored did."""
    if told is None:
        return False
    return told["score"] is None or told["score"] < told["threshold"] or bool(told["reasons"])


def pair_of(exchange: Exchange, body: bytes, answer: bytes) -> Pair | None:
    """The pair of what left and what came back; None where it says more than a pair can."""
    decision, intent = exchange.decision, exchange.intent
    try:
        asked, said = parse_object(body), parse_object(answer)
    except RequestError:
        return None
    if decision is None or decision["api_route"] != CHAT.name:
        return None
    if not _PLAIN.issuperset(name for name, value in asked.items() if value is not None):
        return None
    messages, text = read_messages(asked.get("messages")), _said(said)
    if messages is None or text is None:
        return None
    provenance = {
        "decision_id": str(intent["decision_id"]),
        "intent_id": str(intent["id"]),
        "destination": str(intent["destination"]),
        "model": str(intent["model"]),
        "time": str(intent["time"]),
        "policy_digest": str(decision["policy"]["digest"]),
    }
    return Pair(str(intent["id"]), messages, text, provenance)


async def _why_not_now(
    exchange: Exchange, pair: Pair, wish: Wish, inspector: Inspector
) -> LeftOut | None:
    """Why today's detectors, or today's policy, keep a pair from being one."""
    policy = wish.policy
    recognizers = policy.recognizers if policy else NO_RECOGNIZERS
    question = [{"role": role, "content": text} for role, text in pair.messages]
    whole: JSONObject = {
        "messages": [*question, {"role": "assistant", "content": pair.answer}],
    }
    inspection = await inspector.inspect(whole, recognizers)
    if inspection.unscannable:
        return LeftOut.UNREAD_NOW
    if {finding.entity for finding in inspection.findings} - wish.may_hold:
        return LeftOut.FOUND_NOW
    if policy is not None and not _is_allowed(policy, exchange, inspection):
        return LeftOut.FORBIDDEN_NOW
    return None


def _is_allowed(policy: Policy, exchange: Exchange, inspection: Inspection) -> bool:
    """Whether ``policy`` would let question and answer leave as they are, and be kept.

    The record has the model that was sent to, not the one that was asked for; it holds for both.
    """
    caller, id_ = _caller(exchange.decision), str(exchange.intent["decision_id"])
    for model in (AUTO_MODEL, str(exchange.intent["model"])):
        context = Context(caller, CHAT.name, model, datetime.now(UTC))
        decision = decide(policy, context, inspection, decision_id=id_)
        if decision.action is not Action.ALLOW or not decision.may_leave:
            return False
    return True


def _said(answer: JSONObject) -> str | None:
    """The text of the one choice of an answer, if it is nothing but a text."""
    match answer.get("choices"):
        case [{"finish_reason": "stop", "message": {"role": "assistant", **rest}}]:
            text = rest.pop("content", None)
            if isinstance(text, str) and text.strip() and not any(rest.values()):
                return text
    return None


def _entities(decision: Members) -> Iterator[Any]:
    """What was found in a request; a list that was cut tells so with a word of its own."""
    for one in decision["entities"]:
        yield one["entity"] if isinstance(one, dict) else one


def _caller(decision: Members | None) -> Caller:
    told = decision["caller"] if decision is not None else {}
    names = (str(told.get(name, "")) for name in ("app", "team", "environment", "key_id"))
    return Caller(*names)


def _in_groups(
    ready: Sequence[tuple[Exchange, Pair]],
) -> Iterator[Sequence[tuple[Exchange, Pair]]]:
    for start in range(0, len(ready), _AT_A_TIME):
        yield ready[start : start + _AT_A_TIME]
