"""The unmodified `openai` client on /v1/responses, against a real front door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.proxy.api.front_door import FrontDoor, front_door

ANSWER = "The Volga is the longest river in Europe."


@pytest.fixture(scope="module")
def door() -> Iterator[FrontDoor]:
    with front_door({"TEST_KEEP_ALIVE_S": "0.2"}) as running:
        yield running


@pytest.fixture
def client(door: FrontDoor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="sk-any", max_retries=0) as made:
        yield made


def test_a_response_is_made_shown_and_deleted(client: openai.OpenAI) -> None:
    made = client.responses.create(model="small", input="echo", metadata={"a": "b"})
    assert made.output_text == ANSWER
    assert made.usage is not None
    assert made.usage.total_tokens == 3
    assert client.responses.retrieve(made.id) == made
    assert made.metadata == {"a": "b"}
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(made.id)
    assert caught.value.code == "response_not_found"


@pytest.mark.parametrize("text", ["echo", "sleep 0.5 echo"], ids=["at once", "after keep-alives"])
def test_the_stream_helper_puts_the_response_together(client: openai.OpenAI, text: str) -> None:
    with client.responses.stream(model="small", input=text) as stream:
        told = list(stream)
        final = stream.get_final_response()
    assert "".join(one.delta for one in told if one.type == "response.output_text.delta") == ANSWER
    assert final.output_text == ANSWER
    assert client.responses.retrieve(final.id).output_text == ANSWER


def test_tool_calls_come_whole_and_streamed(client: openai.OpenAI) -> None:
    tool: openai.types.responses.FunctionToolParam = {
        "type": "function",
        "name": "weather",
        "parameters": {"type": "object"},
        "strict": False,
    }
    made = client.responses.create(model="small", input="tool", tools=[tool])
    (call,) = made.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("weather", '{"city": "Lagos"}')
    with client.responses.stream(model="small", input="tool", tools=[tool]) as stream:
        for _ in stream:
            pass
        (again,) = stream.get_final_response().output
    assert again.type == "function_call"
    assert again.arguments == call.arguments
    given: openai.types.responses.ResponseInputParam = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."},
        {"role": "user", "content": "echo"},
    ]
    after = client.responses.create(model="small", input=given, previous_response_id=made.id)
    assert after.output_text == ANSWER


class River(BaseModel):
    """What `parse` is asked for."""

    name: str


def test_a_schema_is_taken(client: openai.OpenAI) -> None:
    with pytest.raises(ValueError, match="JSON"):  # the answerer of this door speaks no JSON
        client.responses.parse(model="small", input="echo", text_format=River)


def test_the_input_is_listed_in_pages(client: openai.OpenAI) -> None:
    first = client.responses.create(model="small", input="echo")
    second = client.responses.create(model="small", input="echo", previous_response_id=first.id)
    listed = list(client.responses.input_items.list(second.id, limit=1))
    assert len(listed) == 3
    ordered = client.responses.input_items.list(second.id, order="asc")
    assert [item.id for item in ordered.data] == [item.id for item in reversed(listed)]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_items.list(second.id, limit=0)
    assert caught.value.param == "limit"


def test_the_input_is_listed_in_full_however_short_it_came(client: openai.OpenAI) -> None:
    first = client.responses.create(model="small", input="echo")
    second = client.responses.create(
        model="small",
        input=[
            {"role": "assistant", "content": "Said."},
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
            {"role": "user", "content": "echo"},
        ],
        previous_response_id=first.id,
    )
    listed = client.responses.input_items.list(second.id, order="asc").data
    told: list[Any] = [item.to_dict() for item in listed]
    assert [item["status"] for item in told] == ["completed"] * 6
    assert [item["content"][0]["type"] for item in told if item["type"] == "message"] == [
        "input_text",
        "output_text",
        "output_text",
        "input_text",
    ]
    assert [item["content"][0]["text"] for item in told if item["type"] == "message"] == [
        "echo",
        first.output_text,
        "Said.",
        "echo",
    ]
    assert told[1]["content"][0]["annotations"] == []
    assert [item["type"] for item in told[3:5]] == ["function_call", "function_call_output"]


def test_there_is_nothing_to_cancel(client: openai.OpenAI) -> None:
    made = client.responses.create(model="small", input="echo")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_none")


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_ones_of_the_client(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as blocked:
        client.responses.create(model="small", input="block", stream=stream)
    assert blocked.value.code == "blocked_by_policy"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(
            model="small", input="echo", stream=stream, previous_response_id="resp_none"
        )
    assert unknown.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(
            model="small", input="echo", stream=stream, tools=[{"type": "web_search"}]
        )
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools[0].type")


def test_an_error_in_mid_stream_is_raised(client: openai.OpenAI) -> None:
    stream = client.responses.create(model="small", input="sleep 0.5 fail cloud", stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "cloud_unavailable"
