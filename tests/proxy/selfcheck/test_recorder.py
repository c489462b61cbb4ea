"""The recorder is a cloud that clients believe, and forgets nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import openai
import pytest

from proxy.selfcheck.recorder import ANSWER, Recorder


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as running:
        yield running


@pytest.fixture(scope="module")
def client(recorder: Recorder) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=recorder.base_url, api_key="any", max_retries=0) as made:
        yield made


def test_answers_every_route_as_openai_does(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello."}]
    )
    assert chat.choices[0].message.content == ANSWER
    assert client.completions.create(model="m", prompt="Hello.").choices[0].text == ANSWER
    assert client.responses.create(model="m", input="Hello.").output_text == ANSWER
    assert client.embeddings.create(model="m", input="Hello.", encoding_format="float").data
    assert client.moderations.create(input="Hello.").results
    assert [model.id for model in client.models.list()] == ["gpt-4o-mini"]


def test_streams_where_it_is_asked_to(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello."}], stream=True
    )
    assert "".join(one.choices[0].delta.content or "" for one in chat) == ANSWER
    texts = client.completions.create(model="m", prompt="Hello.", stream=True)
    assert "".join(one.choices[0].text for one in texts) == ANSWER
    with client.responses.stream(model="m", input="Hello.") as stream:
        assert stream.get_final_response().output_text == ANSWER


def test_takes_a_batch_that_a_proxy_passes_on(client: openai.OpenAI, recorder: Recorder) -> None:
    file = client.files.create(file=("lines.jsonl", b'{"custom_id": "1"}\n'), purpose="batch")
    assert b'{"custom_id": "1"}' in recorder.requests[-1].body
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.retrieve(batch.id).status == "completed"


def test_ends_its_connections_when_it_is_closed() -> None:
    with httpx2.Client(trust_env=False) as wire:
        with Recorder() as first:
            wire.get(f"{first.base_url}/models")
        with Recorder(first.port) as second:
            wire.get(f"{second.base_url}/models")
        assert len(first.requests) == len(second.requests) == 1


def test_records_a_body_in_chunks_and_fails_when_told_to(recorder: Recorder) -> None:
    recorder.fails = lambda request: b"fail" in request.body
    url = f"{recorder.base_url}/chat/completions?x=1"
    with httpx2.Client(trust_env=False) as wire:
        got = wire.post(url, content=iter([b'{"model":', b'"fail"}']), headers={"X-Note": "n"})
    recorder.fails = lambda _: False
    assert got.status_code == 503
    last = recorder.requests[-1]
    assert (last.path, last.body) == ("/v1/chat/completions?x=1", b'{"model":"fail"}')
    assert last.headers["x-note"] == "n"
