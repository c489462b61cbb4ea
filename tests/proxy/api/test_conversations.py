"""Stored responses: joined first, pinned with what they go on from, and one key's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.api.conversations import Conversations
from proxy.errors import RequestError
from proxy.objects import ObjectStore, ObjectStoreError
from proxy.routes.responses_home import from_chat
from proxy.types import Caller, Request, Response, Route, RouteReason, Target
from tests.factories import a_request
from tests.proxy.api.front_door import DECISION, completion

HOME = Caller("app", "team", "test", "k1")
OTHER = Caller("app", "team", "test", "k2")


@dataclass
class Behind:
    """What stands behind: keeps what it is asked, and answers."""

    pinned: bool = False
    status: int = 200
    asked: list[Request] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        body = from_chat(completion("The Volga."), request.body)
        route = Route(Target.LOCAL, RouteReason.CONFIDENT)
        return Response(DECISION, self.status, body, route, pinned=self.pinned)


@dataclass
class Scene:
    """Conversations over a real store."""

    behind: Behind
    store: ObjectStore
    conversations: Conversations

    async def ask(self, caller: Caller = HOME, **more: Any) -> dict[str, Any]:
        body = {"model": "m", "input": "Which river?", **more}
        request = replace(a_request(body), route="responses", caller=caller)
        return dict((await self.conversations.answer(request)).body)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    behind = Behind()
    store = ObjectStore(tmp_path / "objects.sqlite3", b"k" * 32, 100.0)
    yield Scene(behind, store, Conversations(behind, lambda: store, 10_000))
    store.close()


async def test_the_whole_conversation_is_behind_what_follows(scene: Scene) -> None:
    first = await scene.ask(instructions="Be brief.")
    second = await scene.ask(input="How long is it?", previous_response_id=first["id"])
    third = await scene.ask(input="And how deep?", previous_response_id=second["id"])
    body = scene.behind.asked[-1].body
    assert "previous_response_id" not in body
    assert "instructions" not in body
    told: Any = body["input"]
    assert [item.get("content") for item in told if item["role"] == "user"] == [
        "Which river?",
        "How long is it?",
        "And how deep?",
    ]
    assert [item["content"] for item in told if item["role"] == "assistant"] == [
        [{"type": "output_text", "text": "The Volga."}]
    ] * 2
    assert third["previous_response_id"] == second["id"]


async def test_a_pin_carries_along(scene: Scene) -> None:
    scene.behind.pinned = True
    first = await scene.ask()
    scene.behind.pinned = False
    await scene.ask(previous_response_id=first["id"])
    assert scene.behind.asked[-1].derived_from == DECISION
    free = await scene.ask()
    await scene.ask(previous_response_id=free["id"])
    assert scene.behind.asked[-1].derived_from is None


async def test_another_keys_response_is_as_unknown_as_none(scene: Scene) -> None:
    first = await scene.ask()
    faults = []
    for caller, id_ in ((OTHER, first["id"]), (HOME, "resp_none"), (HOME, "a\nb"), (HOME, "")):
        with pytest.raises(RequestError) as caught:
            await scene.ask(caller, previous_response_id=id_)
        faults.append((caught.value.http_status, caught.value.body))
        with pytest.raises(RequestError):
            await scene.conversations.forget(caller, id_)
    assert faults == [faults[0]] * 4
    assert faults[0][0] == 404
    assert faults[0][1]["error"]["param"] == "previous_response_id"
    assert len(scene.behind.asked) == 1


async def test_a_client_that_wants_nothing_kept_has_nothing_kept(scene: Scene) -> None:
    told = await scene.ask(store=False)
    assert told["store"] is False
    with pytest.raises(RequestError):
        await scene.conversations.kept(HOME, told["id"])


async def test_an_error_is_not_kept(scene: Scene) -> None:
    scene.behind.status = 400
    told = await scene.ask()
    with pytest.raises(RequestError):
        await scene.conversations.kept(HOME, told["id"])


async def test_an_answer_that_cannot_be_kept_is_not_given_out(scene: Scene) -> None:
    scene.store.close()
    with pytest.raises(ObjectStoreError):
        await scene.ask()


async def test_a_providers_id_is_not_told_and_the_clients_own_words_are(scene: Scene) -> None:
    told = await scene.ask(metadata={"a": "b"}, user="u-1")
    assert (told["metadata"], told["user"]) == ({"a": "b"}, "u-1")
    assert told["id"].startswith("resp_")
    assert (await scene.conversations.kept(HOME, told["id"])).body == told


async def test_a_conversation_does_not_grow_without_end(scene: Scene) -> None:
    first = await scene.ask(input="word " * 1_500)
    with pytest.raises(RequestError) as caught:
        await scene.ask(input="word " * 1_500, previous_response_id=first["id"])
    assert caught.value.code == "context_length_exceeded"


async def test_other_routes_pass_through(scene: Scene) -> None:
    request = a_request()
    await scene.conversations.answer(request)
    assert scene.behind.asked == [request]
