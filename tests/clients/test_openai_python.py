"""The unmodified `openai` client against a real front door: answers, streams, tools, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.proxy.api.front_door import DECISION, FrontDoor, front_door

ANSWER = "The Volga is the longest river in Europe."


@pytest.fixture(scope="module")
def door() -> Iterator[FrontDoor]:
    with front_door({"TEST_KEEP_ALIVE_S": "0.2"}) as running:
        yield running


@pytest.fixture
def client(door: FrontDoor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="sk-any", max_retries=0) as made:
        yield made


def say(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_an_answer_is_a_chat_completion(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=say("echo"))
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 3


def test_the_decision_and_request_ids_are_at_hand(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="small", messages=say("echo"))
    assert raw.headers["x-ringfence-decision-id"] == DECISION
    parsed = raw.parse()
    assert parsed._request_id is not None
    assert parsed._request_id.startswith("req_")


@pytest.mark.parametrize("text", ["echo", "sleep 0.5 echo"], ids=["at once", "after keep-alives"])
def test_a_stream_spells_the_answer(client: openai.OpenAI, text: str) -> None:
    with client.chat.completions.create(model="small", messages=say(text), stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_with_the_last_chunk_when_asked_for(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="small",
            messages=say("echo"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_stream_helper_puts_the_message_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="small", messages=say("echo")) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == ANSWER


def test_the_stream_helper_puts_tool_calls_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="small", messages=say("tool")) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "weather"
    assert calls[0].function.arguments == '{"city": "Lagos"}'


def test_tool_calls_come_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=say("tool"))
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].id == "call_1"


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["small", "org/large"]
    assert client.models.retrieve("org/large").id == "org/large"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("none")
    assert caught.value.code == "model_not_found"


ERRORS: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str | None]] = {
    "blocked": (
        {"messages": say("block")},
        openai.BadRequestError,
        "blocked_by_policy",
        None,
    ),
    "wrong type": (
        {"messages": say("echo"), "extra_body": {"n": "x"}},
        openai.BadRequestError,
        "invalid_type",
        "n",
    ),
    "no messages": (
        {"messages": []},
        openai.BadRequestError,
        "invalid_value",
        "messages",
    ),
    "local down": (
        {"messages": say("fail local")},
        openai.InternalServerError,
        "local_unavailable",
        None,
    ),
    "not recorded": (
        {"messages": say("fail audit")},
        openai.InternalServerError,
        "ledger_unwritable",
        None,
    ),
    "our bug": (
        {"messages": say("fail bug")},
        openai.InternalServerError,
        "internal_error",
        None,
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("call", "kind", "code", "param"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_are_the_ones_of_the_client(
    client: openai.OpenAI,
    call: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
    stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="small", stream=stream, **call)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id is not None


def test_an_error_in_mid_stream_is_raised(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="small", messages=say("sleep 0.5 fail cloud"), stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "cloud_unavailable"


def test_other_routes_are_not_found(client: openai.OpenAI) -> None:
    for call in (
        lambda: client.fine_tuning.jobs.list(),
        lambda: client.vector_stores.list(),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert caught.value.code == "unknown_url"


def test_the_clients_own_retries_go_by_the_status(door: FrontDoor) -> None:
    seen = door.notes().count("seen")
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="x", max_retries=1) as retrying:
        with pytest.raises(openai.BadRequestError):
            retrying.chat.completions.create(model="small", messages=say("block"))
        assert door.notes().count("seen") == seen + 1
        with pytest.raises(openai.InternalServerError):
            retrying.chat.completions.create(model="small", messages=say("fail local"))
        assert door.notes().count("seen") == seen + 3


def test_a_client_that_gives_up_ends_the_answer(door: FrontDoor, client: openai.OpenAI) -> None:
    cancelled = door.notes().count("cancelled")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(
            model="small", messages=say("sleep 60")
        )
    for _ in range(100):
        if door.notes().count("cancelled") == cancelled + 1:
            break
        client.models.list()
    assert door.notes().count("cancelled") == cancelled + 1


def test_a_stream_outlives_a_read_timeout_by_its_keep_alives(client: openai.OpenAI) -> None:
    stream = client.with_options(timeout=1.5).chat.completions.create(
        model="small", messages=say("sleep 3 echo"), stream=True
    )
    told = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(told) == ANSWER


async def test_the_async_client_runs_many_at_once(door: FrontDoor) -> None:
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="x", max_retries=0) as client:

        async def ask(number: int) -> str:
            if number % 2:
                answer = await client.chat.completions.create(model="small", messages=say("echo"))
                return answer.choices[0].message.content or ""
            stream = await client.chat.completions.create(
                model="small", messages=say("sleep 0.3 echo"), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*map(ask, range(40))) == [ANSWER] * 40


async def test_an_async_stream_can_be_left(door: FrontDoor) -> None:
    async with openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="small", messages=say("big 50000"), stream=True
        )
        async for chunk in stream:
            assert chunk.object == "chat.completion.chunk"
            break
        await stream.close()
        assert [model.id async for model in client.models.list()] == ["small", "org/large"]


def test_text_of_any_script_and_parts_arrive(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="small",
        messages=[
            {"role": "system", "content": "Öß 漢字 \U0001f600 \x00 שלום"},
            {"role": "user", "content": [{"type": "text", "text": "echo"}]},
        ],
        metadata={"a": "b"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        response_format={"type": "json_object"},
        logprobs=True,
        top_logprobs=2,
        stop=["x"],
        seed=1,
    )
    assert answer.choices[0].message.content == ANSWER
