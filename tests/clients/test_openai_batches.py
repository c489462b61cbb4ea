"""The unmodified `openai` client on /v1/files and /v1/batches, against a real front door."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.proxy.api.front_door import FrontDoor, front_door

ANSWER = "The Volga is the longest river in Europe."


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    table = tmp_path_factory.mktemp("keys") / "keys.yaml"
    table.write_text(
        "".join(
            f"- {{id: {name}, sha256: {hashlib.sha256(f'sk-{name}'.encode()).hexdigest()}, "
            f"app: {name}, team: t, environment: test}}\n"
            for name in ("one", "two")
        )
    )
    env = {
        "TEST_KEEP_ALIVE_S": "0.2",
        "RINGFENCE_KEYS_FILE": str(table),
        "RINGFENCE_MAX_FILE_BYTES": "100000",
    }
    with front_door(env) as running:
        yield running


@pytest.fixture
def client(door: FrontDoor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="sk-one", max_retries=0) as made:
        yield made


@pytest.fixture
def other(door: FrontDoor) -> Iterator[openai.OpenAI]:
    """Another key's client."""
    with openai.OpenAI(base_url=f"{door.url}/v1", api_key="sk-two", max_retries=0) as made:
        yield made


def a_line(name: str, text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "small", "messages": [{"role": "user", "content": text}], **more}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def as_file(lines: Sequence[object]) -> tuple[str, bytes]:
    return "lines.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def a_batch(client: openai.OpenAI, lines: Sequence[object]) -> Batch:
    file = client.files.create(file=as_file(lines), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def end_of(client: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 30
    while batch.status not in ("failed", "completed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch.status
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    lines = client.files.content(file_id).text.splitlines()
    return {one["custom_id"]: one for one in map(json.loads, lines)}


def test_a_file_is_kept_listed_shown_and_deleted(client: openai.OpenAI, tmp_path: Path) -> None:
    name, content = as_file([a_line("a", "echo")])
    (tmp_path / name).write_bytes(content)
    file = client.files.create(file=tmp_path / name, purpose="batch")
    assert (file.filename, file.bytes, file.purpose) == (name, len(content), "batch")
    assert file.expires_at is not None
    assert client.files.retrieve(file.id) == file
    assert file in list(client.files.list(purpose="batch"))
    assert file not in list(client.files.list(purpose="batch_output"))
    assert client.files.content(file.id).read() == content
    assert client.files.delete(file.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(file.id)
        assert caught.value.code == "file_not_found"


def test_a_shorter_life_is_kept_to_and_a_longer_one_is_not(client: openai.OpenAI) -> None:
    for asked, given in ((3600, 3600), (2_592_000, 86_400)):
        file = client.files.create(
            file=("a.jsonl", b"x"),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": asked},
        )
        assert file.expires_at == pytest.approx(file.created_at + given, abs=1)


def test_what_is_no_file_for_a_batch_is_refused(client: openai.OpenAI) -> None:
    for file, purpose, code in (
        (("a.jsonl", b"x"), "fine-tune", "invalid_value"),
        (("a.jsonl", b""), "batch", "invalid_value"),
        (("a" * 256, b"x"), "batch", "invalid_value"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.files.create(file=file, purpose=purpose)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(openai.APIStatusError) as large:
        client.files.create(file=("a.jsonl", b"x" * 100_001), purpose="batch")
    assert large.value.code == "body_too_large"


def test_nobody_sees_what_is_anothers(client: openai.OpenAI, other: openai.OpenAI) -> None:
    batch = end_of(client, a_batch(client, [a_line("a", "echo")]))
    for id_ in (batch.input_file_id, str(batch.output_file_id)):
        for call in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(id_)
    for ask in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.batches.create(
            input_file_id=batch.input_file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
        )
    assert list(other.files.list()) == []
    assert list(other.batches.list()) == []


def test_a_batch_is_answered_line_by_line(client: openai.OpenAI) -> None:
    lines = [
        a_line("good", "echo"),
        a_line("blocked", "block"),
        a_line("broken", "fail bug"),
        a_line("wrong", "echo", temperature=9),
        a_line("streamed", "echo", stream=True),
        a_line("later", "fail local"),
    ]
    batch = a_batch(client, lines)
    assert batch.object == "batch"
    batch = end_of(client, batch)
    assert batch.status == "completed"
    counts = batch.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (6, 1, 5)
    good = results(client, batch.output_file_id)
    assert good.keys() == {"good"}
    response = good["good"]["response"]
    assert response["status_code"] == 200
    assert response["body"]["choices"][0]["message"]["content"] == ANSWER
    assert response["request_id"].startswith("req_")
    assert response["decision_id"].startswith("dec_")
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (1, 2)
    errors = {
        name: (one["response"]["status_code"], one["response"]["body"]["error"]["code"])
        for name, one in results(client, batch.error_file_id).items()
    }
    assert errors == {
        "blocked": (400, "blocked_by_policy"),
        "broken": (500, "internal_error"),
        "wrong": (400, "invalid_value"),
        "streamed": (400, "unsupported_parameter"),
        "later": (503, "local_unavailable"),
    }
    assert batch in list(client.batches.list(limit=1))


def test_responses_of_a_batch_are_stored_like_any(client: openai.OpenAI) -> None:
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/responses",
        "body": {"model": "small", "input": "echo"},
    }
    file = client.files.create(file=as_file([line]), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/responses",
        completion_window="24h",
        metadata={"for": "the test"},
    )
    assert batch.metadata == {"for": "the test"}
    batch = end_of(client, batch)
    body = results(client, batch.output_file_id)["a"]["response"]["body"]
    assert client.responses.retrieve(body["id"]).output_text == ANSWER


def test_a_file_with_a_line_that_is_none_fails_before_any_is_asked(
    client: openai.OpenAI, door: FrontDoor
) -> None:
    seen = door.notes().count("seen")
    lines = [
        a_line("a", "echo"),
        a_line("a", "echo"),
        {**a_line("b", "echo"), "url": "/v1/embeddings"},
        {**a_line("c", "echo"), "method": "GET"},
        {**a_line("", "echo")},
        {**a_line("d", "echo"), "more": 1},
        {**a_line("e", "echo"), "body": []},
        [],
    ]
    batch = end_of(client, a_batch(client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(one.line, one.code) for one in batch.errors.data or ()] == [
        (2, "duplicate_custom_id"),
        (3, "mismatched_endpoint"),
        (4, "invalid_method"),
        (5, "invalid_custom_id"),
        (6, "unsupported_parameter"),
        (7, "invalid_body"),
        (8, "invalid_json"),
    ]
    assert batch.output_file_id is None
    assert door.notes().count("seen") == seen


def test_a_cancelled_batch_tells_what_was_answered_and_what_was_not(client: openai.OpenAI) -> None:
    batch = a_batch(client, [a_line(str(place), "sleep 0.4") for place in range(12)])
    while (counts := client.batches.retrieve(batch.id).request_counts) is None or (
        counts.completed == 0
    ):
        time.sleep(0.05)
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = end_of(client, batch)
    assert batch.status == "cancelled"
    done = results(client, batch.output_file_id)
    left = results(client, batch.error_file_id)
    assert done.keys() | left.keys() == {str(place) for place in range(12)}
    assert {one["error"]["code"] for one in left.values()} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError) as caught:
        client.batches.cancel(batch.id)
    assert caught.value.code == "batch_is_over"


def test_a_batch_is_taken_only_with_what_is_known(client: openai.OpenAI) -> None:
    file = client.files.create(file=as_file([a_line("a", "echo")]), purpose="batch")
    good: dict[str, Any] = {
        "input_file_id": file.id,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    for change, param in (
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"extra_body": {"priority": 1}}, None),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.batches.create(**(good | change))
        assert caught.value.param == param
    with pytest.raises(openai.NotFoundError) as unknown:
        client.batches.create(**(good | {"input_file_id": "file_none"}))
    assert unknown.value.param == "input_file_id"


def test_a_batch_that_is_sent_twice_under_a_key_is_made_once(client: openai.OpenAI) -> None:
    file = client.files.create(file=as_file([a_line("a", "echo")]), purpose="batch")
    first, second = (
        client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_headers={"Idempotency-Key": "nightly"},
        )
        for _ in range(2)
    )
    assert first.id == second.id
    end_of(client, first)


def test_few_lines_run_at_once_and_live_requests_beside_them(
    client: openai.OpenAI, other: openai.OpenAI, door: FrontDoor
) -> None:
    before = len(door.notes())
    batch = a_batch(client, [a_line(str(place), "sleep 0.3") for place in range(6)])
    second = a_batch(other, [a_line("quick", "echo")])
    live = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "echo"}]
    )
    assert live.choices[0].message.content == ANSWER
    assert end_of(other, second).status == "completed"
    assert client.batches.retrieve(batch.id).status == "in_progress"  # it did not have to wait
    assert end_of(client, batch).status == "completed"
    running = most = 0
    for note in door.notes()[before:]:
        running += {"seen": 1, "done": -1}.get(note, 0)
        most = max(most, running)
    assert most in (2, 3)  # two lines, and the live request
