"""What becomes a pair: escalated, harmless by the record and by today's detectors, and a text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from audit.capture_keys import make_capture_key
from audit.captures import erase_body
from audit.record import ConfidenceRecord, CoverageRecord, DecisionRecord, EntityRecord
from demo.stand_in_cloud import completion
from proxy.errors import SettingsError
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.learning.harvest import Harvest, LeftOut, Wish, harvest
from proxy.learning.pairs import read_pairs
from proxy.policy.model import Policy
from proxy.types import Inspection, JSONObject
from tests.audit.test_ledger import ORIGIN, an_intent, an_outcome
from tests.audit.test_prune import new_id
from tests.audit.test_query import a_decision
from tests.audit.test_vault import Room
from tests.audit.test_vault import room as room
from tests.proxy.egress.masking import PEOPLE, inspect
from tests.proxy.policy.policies import OPEN, load

QUESTION = "Which river is longest?"
ANSWER = "The Volga."
FOUND = EntityRecord("LOCATION", "location", 1, 0.9, ())


@dataclass
class Looking:
    """The real inspection with a detector for a few words; tells what it is asked."""

    seen: list[str] = field(default_factory=list)
    opened: int = 0

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        self.seen.append(json.dumps(body))
        return await asyncio.to_thread(inspect, body, {**PEOPLE, "Samara": "LOCATION"})


def decided(**changes: Any) -> DecisionRecord:
    """The decision of a request that is escalated with nothing found in it."""
    decision = a_decision("billing", "PERSON", "cloud")
    routing = replace(decision.routing, reason="low_confidence")
    return replace(decision, **{"entities": (), "routing": routing, **changes})


def routed(**changes: Any) -> DecisionRecord:
    return decided(routing=replace(decided().routing, **changes))


@dataclass(frozen=True)
class Case:
    """An exchange: what left, what came back, and what the records say."""

    body: Mapping[str, Any] = field(default_factory=dict)
    answer: str | bytes | None = ANSWER
    decision: DecisionRecord | None = field(default_factory=decided)
    outcome: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        asked = [{"role": "user", "content": QUESTION}]
        return json.dumps({"model": "gpt-4o", "messages": asked, **self.body}).encode()

    @property
    def came(self) -> bytes | None:
        return completion(self.answer, "gpt-4o") if isinstance(self.answer, str) else self.answer


def recorded(room: Room, *cases: Case) -> list[str]:
    """Record the exchanges in one chain; gives the ids of their intents."""

    async def run() -> list[str]:
        ledger = room.open()
        ids = []
        for case in cases:
            id_ = new_id()
            if case.decision is not None:
                await ledger.decision(replace(case.decision, decision_id=id_))
            permit = await ledger.intent(an_intent(id_), case.sent, ORIGIN)
            usual = {"confidence": None, "answer_scan": None, "answer_entities": ()}
            outcome = replace(an_outcome(permit), **{**usual, **case.outcome})
            await ledger.outcome(outcome, case.came, keep=True)
            ids.append(permit.intent_id)
        await ledger.close()
        return ids

    return asyncio.run(run())


def harvested(
    room: Room, wish: Wish | None = None, looking: Looking | None = None, key: Path | None = None
) -> Harvest:
    inspector = looking or Looking()

    @asynccontextmanager
    async def detectors() -> AsyncIterator[Looking]:
        inspector.opened += 1
        yield inspector

    return asyncio.run(harvest(room.ledger, key or room.key, wish or Wish(), detectors))


def said(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in messages]}


def choice(**message: Any) -> bytes:
    """An answer whose one choice holds ``message``."""
    one = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return json.dumps({"object": "chat.completion", "choices": [one]}).encode()


def test_a_pair_says_where_it_comes_from_and_is_read_by_the_fine_tuning(
    room: Room, tmp_path: Path
) -> None:
    talk = said(("system", "Be short."), ("user", "Hello"), ("assistant", "Hi"), ("user", QUESTION))
    plain = {"max_tokens": 20, "temperature": 0.5, "stream": False, "n": 1, "tools": None}
    (id_,) = recorded(room, Case({**talk, **plain}, choice(content=ANSWER, refusal=None)))
    (pair,) = harvested(room).pairs
    assert pair.messages == tuple((one["role"], one["content"]) for one in talk["messages"])
    assert (pair.id, pair.answer) == (id_, ANSWER)
    told = dict(pair.provenance)
    assert told.pop("decision_id").startswith("dec_")
    assert told.pop("time").endswith("Z")
    assert told == {
        "intent_id": id_,
        "destination": "eu",
        "model": "gpt-4o",
        "policy_digest": "sha256:" + "0" * 64,
    }
    (tmp_path / "pairs.jsonl").write_text(pair.line())
    (read,) = read_pairs(tmp_path / "pairs.jsonl")
    assert (read.messages, read.answer) == (pair.messages, pair.answer)


def sure(score: float | None, *reasons: str) -> ConfidenceRecord:
    """How sure a cloud's answer was, of -0.5."""
    return ConfidenceRecord("mean_logprob", score, -0.5, None, reasons)


def test_an_answer_of_a_chain_that_was_sure_enough_is_a_pair(room: Room) -> None:
    (id_,) = recorded(room, Case(outcome={"confidence": sure(-0.4)}))
    assert [pair.id for pair in harvested(room).pairs] == [id_]


CASES: dict[str, tuple[LeftOut, Case]] = {
    "by name": (LeftOut.NOT_ESCALATED, Case(decision=routed(reason="cloud_first"))),
    "home was down": (LeftOut.NOT_ESCALATED, Case(decision=routed(reason="local_failed"))),
    "no decision": (LeftOut.NO_DECISION, Case(decision=None)),
    "masked": (
        LeftOut.NOT_ALLOWED,
        Case(decision=decided(policy=replace(decided().policy, action="mask"))),
    ),
    "derived": (LeftOut.NOT_ALLOWED, Case(decision=routed(derived_from="dec_" + "1" * 28))),
    "found": (LeftOut.FOUND_THEN, Case(decision=decided(entities=(FOUND,)))),
    "more found than is told": (
        LeftOut.FOUND_THEN,
        Case(decision=decided(entities=(FOUND,) * 200)),
    ),
    "unread": (
        LeftOut.FOUND_THEN,
        Case(decision=decided(coverage=CoverageRecord(2, 1, 0, (("image", 1),)))),
    ),
    "found in the answer": (
        LeftOut.FOUND_THEN,
        Case(outcome={"answer_entities": (("PERSON", 1),)}),
    ),
    "cut": (LeftOut.CUT_SHORT, Case(outcome={"finish_reason": "length"})),
    "not sure enough": (LeftOut.UNSURE, Case(outcome={"confidence": sure(-0.6)})),
    "nobody could say how sure": (LeftOut.UNSURE, Case(outcome={"confidence": sure(None)})),
    "in doubt": (LeftOut.UNSURE, Case(outcome={"confidence": sure(-0.1, "hedge:i don't know")})),
    "cut, but for the record": (
        LeftOut.OTHER_FORM,
        Case(answer=completion(ANSWER, "m").replace(b'"stop"', b'"length"')),
    ),
    "another route": (LeftOut.OTHER_FORM, Case(decision=decided(api_route="responses"))),
    "tools": (LeftOut.OTHER_FORM, Case({"tools": [{"type": "function"}]})),
    "stop words": (LeftOut.OTHER_FORM, Case({"stop": ["\n"]})),
    "a form": (LeftOut.OTHER_FORM, Case({"response_format": {"type": "json_object"}})),
    "what nobody knows": (LeftOut.OTHER_FORM, Case({"new_member": 1})),
    "a picture": (
        LeftOut.OTHER_FORM,
        Case({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}),
    ),
    "a tool's result": (LeftOut.OTHER_FORM, Case(said(("user", "q"), ("tool", "r")))),
    "no user at the end": (LeftOut.OTHER_FORM, Case(said(("user", "q"), ("assistant", "r")))),
    "a call": (
        LeftOut.OTHER_FORM,
        Case(answer=choice(content="a", tool_calls=[{"id": "c", "type": "function"}])),
    ),
    "a refusal": (LeftOut.OTHER_FORM, Case(answer=choice(content=None, refusal="No."))),
    "nothing said": (LeftOut.OTHER_FORM, Case(answer=" \n")),
    "somebody else": (LeftOut.OTHER_FORM, Case(answer=choice(content="a", role="user"))),
    "no JSON": (LeftOut.OTHER_FORM, Case(answer=b"{")),
    "two members of one name": (LeftOut.OTHER_FORM, Case(answer=b'{"choices":[],"choices":[]}')),
    "a person in the question": (LeftOut.FOUND_NOW, Case(said(("user", "Who is Jane Doe?")))),
    "a person further up": (
        LeftOut.FOUND_NOW,
        Case(said(("system", "Serve Jane Doe."), ("user", "Hello"))),
    ),
    "a person in the answer": (LeftOut.FOUND_NOW, Case(answer="Ask Jane Doe.")),
    "a place in the answer": (LeftOut.FOUND_NOW, Case(answer="By Samara.")),
    "a person within JSON": (
        LeftOut.FOUND_NOW,
        Case(answer=json.dumps({"who": "Jane\u0020Doe"}).replace(" Doe", "\\u0020Doe")),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_leaves_out_and_counts(name: str, room: Room) -> None:
    why, case = CASES[name]
    good = Case(answer="Another answer.")
    recorded(room, good, case)
    found = harvested(room)
    assert [pair.answer for pair in found.pairs] == ["Another answer."]
    assert found.left_out == {why.value: 1}


def test_what_was_erased_is_skipped_also_while_it_is_inspected(room: Room) -> None:
    ids = recorded(room, *(Case(answer=f"Answer {n}.") for n in range(3)))
    erase_body(room.ledger, room.keys, ids[0], "gdpr_art_17", "jane")

    @dataclass
    class Meanwhile(Looking):
        async def inspect(
            self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
        ) -> Inspection:
            if "Answer 1." in json.dumps(body):
                where = (room.ledger, room.keys)
                await asyncio.to_thread(erase_body, *where, ids[1], "gdpr_art_17", "jane")
            return await super().inspect(body, recognizers, caller)

    found = harvested(room, looking=Meanwhile())
    assert [pair.answer for pair in found.pairs] == ["Answer 2."]
    assert found.left_out == {"erased": 2}


def test_what_could_not_be_kept_or_is_for_another_key_is_counted(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(room, Case(answer="For another."))
    public = make_capture_key(tmp_path / "second")
    (tmp_path / "proxy.pub").write_bytes(public.read_bytes())
    recorded(room, Case())
    with monkeypatch.context() as patch:
        patch.setattr("audit.vault.answer_path", lambda *_: Path("/dev/null/answer"))
        recorded(room, Case(answer="Lost."))
    looking = Looking()
    found = harvested(room, looking=looking, key=tmp_path / "second" / "capture.key")
    assert [pair.answer for pair in found.pairs] == [ANSWER]
    assert found.left_out == {"unreadable": 1, "not_kept": 1}
    assert len(looking.seen) == 1


def test_the_same_pair_twice_is_one_and_the_order_is_that_of_leaving(room: Room) -> None:
    first = recorded(room, Case(answer="B."), Case(answer="A."))
    second = recorded(room, Case(answer="B."), Case(answer="C."))
    found = harvested(room)
    assert [pair.id for pair in found.pairs] == [*first, second[1]]
    assert found.left_out == {"repeated": 1}
    assert harvested(room) == found


def test_what_went_ahead_of_its_draft_is_a_pair_too(room: Room) -> None:
    recorded(room, Case(decision=routed(reason="prerouted")))
    assert [pair.answer for pair in harvested(room).pairs] == [ANSWER]


def test_takes_a_time_and_an_app_alone(room: Room) -> None:
    caller = replace(decided().caller, app="helpdesk")
    recorded(room, Case(answer="A."), Case(answer="B.", decision=decided(caller=caller)))
    recorded(room, Case(decision=None))
    at = [str(pair.provenance["time"]) for pair in harvested(room).pairs]

    def answers(**wish: str) -> list[str]:
        return [pair.answer for pair in harvested(room, Wish(**wish)).pairs]  # type: ignore[arg-type]

    assert answers(since=at[1]) == ["B."]
    assert answers(until=at[1]) == ["A."]
    assert answers(app="helpdesk") == ["B."]
    looking = Looking()
    assert harvested(room, Wish(app="nobody"), looking).pairs == ()
    assert looking.opened == 0
    assert harvested(room, Wish(app="helpdesk")).left_out == {}  # the others are none of it


def test_an_entity_may_stand_in_a_pair_if_somebody_says_so(room: Room) -> None:
    recorded(room, Case(answer="By Samara.", decision=decided(entities=(FOUND,))))
    recorded(room, Case(answer="Jane Doe, by Samara."))
    found = harvested(room, Wish(may_hold=frozenset({"LOCATION"})))
    assert [pair.answer for pair in found.pairs] == ["By Samara."]
    assert found.left_out == {"found_now": 1}


def policy(folder: Path, text: str) -> Policy:
    return load(folder, f"record: {{train_on_answers: true}}\ndefault: allow\n{text}")


def local_only(**when: object) -> str:
    """A rule, in a policy with a destination."""
    rule = {"id": "r", "why": "no places", "action": "local_only", **when}
    return f"{OPEN}rules: {json.dumps([rule])}\n"


PLACES = {"when": {"entities": ["LOCATION"]}}
FORBIDS = {
    "a rule": local_only(**PLACES),
    "a rule for what clients ask for": local_only(**PLACES, scope={"models": ["ringfence"]}),
    "a rule for what was sent to": local_only(**PLACES, scope={"models": ["gpt-4o"]}),
    "a rule for the app": local_only(**PLACES, scope={"apps": ["billing"]}),
    "no destination": "",
    "a destination without places": OPEN + "    only_for: {entities_absent: [LOCATION]}\n",
}


@pytest.mark.parametrize("name", FORBIDS)
def test_a_policy_of_today_has_the_last_word(name: str, room: Room, tmp_path: Path) -> None:
    recorded(room, Case(answer="By Samara."))
    may_hold = frozenset({"LOCATION"})
    strict = policy(tmp_path, FORBIDS[name])
    found = harvested(room, Wish(may_hold=may_hold, policy=strict))
    assert (found.pairs, found.left_out) == ((), {"forbidden_now": 1})
    others = {"when": {"entities": ["PERSON"]}}
    for text in (OPEN, local_only(**others), local_only(**PLACES, scope={"apps": ["desk"]})):
        loose = Wish(may_hold=may_hold, policy=policy(tmp_path, text))
        assert len(harvested(room, loose).pairs) == 1


def test_a_policy_that_lets_nobody_learn_is_refused(room: Room, tmp_path: Path) -> None:
    recorded(room, Case())
    with pytest.raises(SettingsError, match="train_on_answers"):
        harvested(room, Wish(policy=load(tmp_path, "default: allow\n" + OPEN)))


def test_nobody_learns_from_a_ledger_that_was_changed(room: Room) -> None:
    recorded(room, Case(answer="A."), Case(answer="B."))
    one, two = (path for path in room.files() if path.suffix == ".answer")
    one.write_bytes(two.read_bytes())
    looking = Looking()
    with pytest.raises(SettingsError, match="changed"):
        harvested(room, looking=looking)
    assert (looking.opened, looking.seen) == (0, [])


def test_no_text_shows_when_a_harvest_is_printed(room: Room) -> None:
    recorded(room, Case())
    assert ANSWER not in repr(harvested(room))
