"""The cloud adapter through the real SDK: faults become ours, and carry nothing."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Iterator

import pytest

from audit.permit import mint
from demo.stand_in_cloud import ANSWER, Reply, StandInCloud
from proxy.credentials import Credentials
from proxy.egress.cloud import OpenAICloud
from proxy.egress.transport import Door, origin_of
from proxy.errors import CloudError, EgressDenied
from proxy.routes.chat import CHAT
from proxy.types import JSON, Outcome
from tests.factories import a_destination
from tests.harness import free_port

assert CHAT.abroad is not None
CALL = CHAT.abroad
SECRET = "canary-in-the-request"
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"canary-in-the-request"}]}'


@pytest.fixture
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as server:
        yield server


@pytest.fixture
async def backend() -> AsyncIterator[OpenAICloud]:
    door = Door()
    yield OpenAICloud(door, credentials=Credentials(other="k"), timeout_s=3.0)
    await door.aclose()


async def complete(backend: OpenAICloud, base_url: str, body: bytes = BODY) -> Outcome:
    permit = mint(ids=("int", "dec", 1), body=BODY, origin=origin_of(base_url))
    return await backend.complete(body, a_destination(base_url), permit, CALL)


async def test_brings_the_answer_and_what_it_cost(
    backend: OpenAICloud, cloud: StandInCloud
) -> None:
    outcome = await complete(backend, cloud.base_url)
    assert outcome.body["choices"][0]["message"]["content"] == ANSWER  # type: ignore[index,call-overload]
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (20, 9)
    assert outcome.counted
    assert outcome.bytes_sent == len(BODY)
    assert [request.body for request in cloud.requests] == [BODY]


@pytest.mark.parametrize(
    ("reply", "error_type", "status", "sent"),
    [
        (Reply(400, b'{"error":{"message":"canary-in-the-answer"}}'), "status_4xx", 400, "yes"),
        (Reply(401, b"{}"), "status_4xx", 401, "yes"),
        (Reply(429, b"{}", (("retry-after", "1"),)), "status_4xx", 429, "yes"),
        (Reply(500, b"canary-in-the-answer"), "status_5xx", 500, "yes"),
        (Reply(307, b"", (("location", "http://127.0.0.1:9/"),)), "redirect", 307, "yes"),
        (Reply(200, b"canary-in-the-answer"), "garbage", 200, "yes"),
        (Reply(200, b'{"choices":[]}'), "garbage", 200, "yes"),
        (Reply(200, b'{"choices":[{"message":"canary"}]}'), "garbage", 200, "yes"),
        (Reply(200, b'{"choices":[{"message":{}}],"choices":[]}'), "garbage", 200, "yes"),
        (Reply(200, delay_s=6.0), "timeout", None, "unknown"),
        (Reply(200, cut=True), "connection", None, "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_fault_becomes_ours_and_carries_nothing(
    reply: Reply,
    error_type: str,
    status: int | None,
    sent: str,
    backend: OpenAICloud,
    cloud: StandInCloud,
) -> None:
    cloud.reply = lambda _: reply
    with pytest.raises(CloudError) as caught:
        await complete(backend, cloud.base_url)
    error = caught.value
    assert (error.upstream_error, error.upstream_status, error.sent) == (error_type, status, sent)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert len(cloud.requests) == 1
    said = "".join(traceback.format_exception(error)) + repr(vars(error))
    assert "canary" not in said


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("req_" + "0a" * 16, "req_" + "0a" * 16),
        ("11111111-2222-3333-4444-555555555555",) * 2,
        ("canary-in-the-answer", "other"),
        ("req_" + "0a" * 16 + "-canary", "other"),
    ],
)
async def test_keeps_the_providers_request_id_if_it_has_the_form_of_one(
    given: str, kept: str, status: int, backend: OpenAICloud, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(status, headers=(("x-request-id", given),))
    result: Outcome | CloudError
    try:
        result = await complete(backend, cloud.base_url)
    except CloudError as error:
        result = error
    assert result.provider_request_id == kept


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 0}, (7, 0, True)),
        ({"input_tokens": 7, "output_tokens": 2}, (7, 2, True)),
        ({"prompt_tokens": 7, "total_tokens": 7}, (7, 0, True)),
        ({"prompt_tokens": 7}, (7, 0, False)),
        ({"completion_tokens": 7}, (0, 7, False)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, False)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, (0, 3, False)),
        ({"prompt_tokens": True, "completion_tokens": 3}, (0, 3, False)),
        ({"prompt_tokens": 2**40, "completion_tokens": 3}, (0, 3, False)),
        ("none", (0, 0, False)),
    ],
    ids=str,
)
async def test_counts_tokens_only_where_the_destination_told_both(
    usage: JSON, counts: tuple[int, int, bool], backend: OpenAICloud, cloud: StandInCloud
) -> None:
    told = {"choices": [{"message": {"content": "Yes."}}], "usage": usage}
    cloud.reply = lambda _: Reply(200, json.dumps(told).encode())
    outcome = await complete(backend, cloud.base_url)
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.counted) == counts


async def test_a_refused_connection_sent_nothing(backend: OpenAICloud) -> None:
    with pytest.raises(CloudError) as caught:
        await complete(backend, f"http://127.0.0.1:{free_port()}/v1")
    assert (caught.value.upstream_error, caught.value.sent) == ("connection", "no")


async def test_other_bytes_than_the_permits_are_our_bug(
    backend: OpenAICloud, cloud: StandInCloud
) -> None:
    with pytest.raises(EgressDenied) as caught:
        await complete(backend, cloud.base_url, BODY + b" ")
    assert caught.value.__context__ is None
    assert cloud.requests == []
