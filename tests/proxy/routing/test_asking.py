"""Estimators that ask the local model again, against one that answers by a script."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest

from proxy.errors import LocalBackendError
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.routing.asking import NUM_SAMPLES, AskingEstimator, p_true, self_consistency
from proxy.types import Draft, Request
from tests.factories import a_body, a_draft, a_request


@dataclass
class Script:
    """Answers one draft after the other; keeps what it was asked."""

    drafts: list[Draft]
    asked: list[Request] = field(default_factory=list)

    async def generate(self, request: Request) -> Draft:
        self.asked.append(request)
        return self.drafts[len(self.asked) - 1]

    async def probe(self) -> bool:
        return True


def verdict(**mass: float) -> Draft:
    top = tuple((f" {word}", math.log(p)) for word, p in mass.items())
    return replace(a_draft(), top_logprobs=(top,))


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        ({"True": 0.6, "False": 0.4}, 0.6),
        ({"True": 0.6, "False": 0.2, "Maybe": 0.2}, 0.7),
        ({"TRUE": 0.3, "true": 0.3}, 0.8),
        ({"False": 0.5}, 0.25),
        ({"Yes": 0.98, "True": 0.01}, 0.505),  # nothing to be sure of
        ({"Maybe": 0.9}, None),
    ],
)
async def test_p_true_is_the_share_of_true_and_half_of_what_is_neither(
    mass: dict[str, float], expected: float | None
) -> None:
    local = Script([verdict(**mass)])
    assert await p_true(local, a_request(), a_draft()) == (
        None if expected is None else pytest.approx(expected)
    )


async def test_p_true_shows_the_model_its_own_answer_and_drops_the_clients_tools() -> None:
    local = Script([verdict(True_=1.0)])
    await p_true(local, a_request(a_body(tools=[{}], n=3, stream=True)), a_draft("The Volga."))
    body = local.asked[0].body
    assert body["messages"][1] == {"role": "assistant", "content": "The Volga."}  # type: ignore[index]
    assert (body["max_tokens"], "tools" in body, "n" in body) == (1, False, False)


async def test_p_true_without_alternatives_is_unknown() -> None:
    assert await p_true(Script([a_draft()]), a_request(), a_draft()) is None


async def test_self_consistency_is_the_share_of_samples_that_agree() -> None:
    samples = ["The Volga.", "volga", "Don", "Danube", "Volga!"]
    local = Script([a_draft(text) for text in samples])
    score = await self_consistency(local, a_request(a_body(seed=7)), a_draft("Volga"))
    assert score == pytest.approx(3 / 5)
    assert len(local.asked) == NUM_SAMPLES
    assert all("seed" not in one.body and one.body["temperature"] == 0.7 for one in local.asked)


@pytest.mark.parametrize(
    "draft",
    [a_draft(""), a_draft(" \n"), replace(a_draft("Let me see."), finish_reason="tool_calls")],
    ids=["nothing", "blank", "a call"],
)
async def test_a_draft_that_is_no_words_is_unknown_though_all_samples_say_the_same(
    draft: Draft,
) -> None:
    for ask in (p_true, self_consistency):
        local = Script([draft] * NUM_SAMPLES)
        assert await ask(local, a_request(), draft) is None
        assert local.asked == []


async def test_other_signs_do_not_agree_for_want_of_words() -> None:
    local = Script([a_draft(text) for text in ("+", "-", "-", ":-)", "")])
    assert await self_consistency(local, a_request(), a_draft("+")) == pytest.approx(1 / 5)


async def test_a_local_tier_that_fails_leaves_it_unknown() -> None:
    @dataclass
    class Down(Script):
        async def generate(self, request: Request) -> Draft:
            raise LocalBackendError("down")

    for ask in (p_true, self_consistency):
        estimator = AskingEstimator("x", ask, Down([]), 0.5)
        assert (await estimator.estimate(a_request(), a_draft(), may_ask=True)).score is None


@pytest.mark.slow
async def test_the_embedded_model_judges_its_own_answer(local_url: str) -> None:
    local = OpenAIHTTPBackend(local_url, "smollm2-135m-instruct")
    question = "Is Paris in France? Say True or False."
    score = await p_true(local, a_request(a_body(question)), a_draft("True"))
    await local.aclose()
    assert score is not None
    assert 0 < score < 1
