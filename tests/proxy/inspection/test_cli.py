"""`inspect --jsonl`: answers in order, errors in their place, nothing written back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

from proxy.inspection.cli import inspect_jsonl
from proxy.inspection.inline import inspect_with
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.types import Action, Inspection, JSONObject
from tests.proxy.inspection.fakes import FakeDetector


class InlineInspector:
    """Inspects with a fake detector, in this process."""

    async def inspect(
        self, body: JSONObject, recognizers: Recognizers = NO_RECOGNIZERS, caller: str = ""
    ) -> Inspection:
        return inspect_with((FakeDetector("secret"),), ("en",), body)


def act(inspection: Inspection) -> Action:
    return Action.LOCAL_ONLY if inspection.findings or inspection.unscannable else Action.ALLOW


async def run(*lines: bytes) -> tuple[int, list[dict[str, object]]]:
    out = io.StringIO()
    code = await inspect_jsonl(lines, out, inspector=InlineInspector(), act=act)
    return code, [json.loads(line) for line in out.getvalue().splitlines()]


async def test_answers_each_line_in_order() -> None:
    texts = [f"line {n}" + " secret" * (n % 2) for n in range(40)]
    lines = [json.dumps({"id": n, "text": t, "lang": "en"}).encode() for n, t in enumerate(texts)]
    code, answers = await run(*lines)
    assert code == 0
    assert [answer["id"] for answer in answers] == list(range(40))
    assert [answer["action"] for answer in answers] == ["allow", "local_only"] * 20
    assert answers[1]["findings"] == [{"start": 7, "end": 13, "entity": "PASSWORD", "score": 0.9}]


async def test_a_line_that_is_none_is_an_error_in_its_place() -> None:
    code, answers = await run(
        b'{"id": "a", "text": "secret"}',
        b"{nonsense",
        b'{"id": "b"}',
        b"[]",
        b'{"id": 3, "text": ""}',
    )
    assert code == 1
    assert [answer["id"] for answer in answers] == ["a", None, "b", None, 3]
    assert ["error" in answer for answer in answers] == [False, True, True, True, False]


async def test_never_writes_a_text_back() -> None:
    out = io.StringIO()
    line = b'{"id": 1, "text": "the secret word", "other": "secret"}'
    await inspect_jsonl([line, b"secret"], out, inspector=InlineInspector(), act=act)
    assert "secret" not in out.getvalue()


async def test_writes_an_answer_before_it_has_read_all_lines() -> None:
    out = io.StringIO()
    seen: list[str] = []

    def lines() -> Iterator[bytes]:
        for number in range(200):
            seen.append(out.getvalue())
            yield json.dumps({"id": number, "text": "x"}).encode()

    await inspect_jsonl(lines(), out, inspector=InlineInspector(), act=act)
    assert seen[150] != ""
