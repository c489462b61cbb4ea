"""A plan fits what it was made for; it picks lines within a budget, and only where they may go."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxy.errors import SettingsError
from proxy.holding import Held
from proxy.prices import Price, Prices
from proxy.routing.features import FEATURES, held_of
from proxy.routing.ladder import Ladder
from proxy.routing.plan import Plan, Planner, Predictor, load_plan, plan_of, planner_in_force
from proxy.settings import Settings
from proxy.types import Action
from tests.factories import a_body, a_decision, a_draft, a_request
from tests.proxy.routing.tables import a_ladder

HERE = Settings(local_base_url="http://127.0.0.1:9/v1", local_model="home")
PRICE = Price(input=Decimal("1"), output=Decimal("1"))
PRICES = Prices({"eu": {"cheap": PRICE, "dear": PRICE}})
BOTH = (("cheap", "eu"), ("dear", "eu"))


def a_plan(home: float = 0.5, cheap: float = 0.8, dear: float = 0.9) -> Plan:
    """Without anything learned: each model is as likely right whatever is asked."""
    predictors = (
        Predictor("local", home, 0.0),
        Predictor("cheap", cheap, 0.01),
        Predictor("dear", dear, 0.1),
    )
    return Plan("home", None, 100, "sha256:" + "0" * 64, "2026-11-30T00:00:00+00:00", predictors)


def a_line(**more: Any) -> Held:
    line = Held(True, (None,) * len(FEATURES), 0, BOTH)
    return replace(line, **more)


def with_drafts(rows: int) -> Ladder:
    """A ladder whose only feature that tells anything is the mean log-probability."""
    ladder = a_ladder(rows)
    features = np.zeros((rows, len(FEATURES)))
    features[:, 0] = ladder.score[:, 0]
    return replace(ladder, features=features)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    plan_of(HERE, with_drafts(400), "sha256:" + "0" * 64).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_a_plan_is_read_as_it_was_written_and_tells_sure_drafts_from_unsure_ones(
    artifact: Path,
) -> None:
    made = load_plan(artifact)
    again = plan_of(HERE, with_drafts(400), made.data_digest)
    assert made == replace(again, made_at=made.made_at)
    assert made.clouds == ("cheap", "dear")
    home, _, dear = made.predictors
    assert home.learned is not None
    assert home.learned.features == (FEATURES[0],)
    sure = (-0.01, *(None,) * (len(FEATURES) - 1))
    unsure = (-2.0, *(None,) * (len(FEATURES) - 1))
    assert home.probability(sure) > home.probability(unsure) + 0.3
    assert home.probability(None) == home.share
    assert dear.rest_usd == pytest.approx(0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"num_rows": 5},
        {"format": 2},
        {"more": 1},
        {"predictors": []},
        {"predictors": [{"name": "a"}]},
        {"made_at": "2026-01-01"},
    ],
    ids=str,
)
def test_a_plan_that_was_changed_is_refused(artifact: Path, change: dict[str, object]) -> None:
    artifact.write_text(json.dumps(json.loads(artifact.read_text()) | change))
    with pytest.raises(SettingsError, match="make it anew"):
        load_plan(artifact)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "\x80"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="no plan"):
        load_plan(tmp_path / "p.json")


def test_a_plan_made_for_something_else_or_without_what_it_needs_is_refused(
    artifact: Path, tmp_path: Path
) -> None:
    whole = HERE.model_copy(
        update={"plan_file": artifact, "batch_budget_usd": 1.0, "prices_file": artifact}
    )
    planner = planner_in_force(whole, PRICES)
    assert planner is not None
    assert planner.budget_usd == 1.0
    assert planner_in_force(HERE, PRICES) is None
    other = tmp_path / "other.json"
    replace(load_plan(artifact), model_digest="sha256:other").save(other)
    for more, named in (
        ({"batch_budget_usd": None}, "needs RINGFENCE_BATCH_BUDGET_USD"),
        ({"prices_file": None}, "needs RINGFENCE_BATCH_BUDGET_USD and RINGFENCE_PRICES_FILE"),
        ({"local_model": "other"}, "made for the model home"),
        ({"plan_file": other}, "made for other weights"),
    ):
        with pytest.raises(SettingsError, match=named):
            planner_in_force(whole.model_copy(update=more), PRICES)


def test_a_budget_goes_where_it_buys_the_most_right_answers() -> None:
    lines = [a_line()] * 10
    told = Planner(a_plan(), PRICES, 1e-6).models(lines)
    assert told == [None] * 10
    told = Planner(a_plan(), PRICES, 0.055).models(lines)
    assert sorted(filter(None, told)) == ["cheap"] * 5  # a dear one buys less for a dollar
    told = Planner(a_plan(), PRICES, 100.0).models(lines)
    assert told == ["dear"] * 10
    told = Planner(a_plan(home=0.95), PRICES, 100.0).models(lines)
    assert told == [None] * 10
    assert Planner(a_plan(), PRICES, 1.0).models([]) == []


def test_a_long_prompt_is_dear() -> None:
    lines = [a_line(prompt_tokens=100_000), a_line(prompt_tokens=1)]
    assert Planner(a_plan(), PRICES, 0.02).models(lines) == [None, "cheap"]


def test_a_line_goes_only_where_it_may_and_its_price_is_known() -> None:
    lines = [a_line(reach=()), a_line(reach=(("dear", "us"),)), a_line(reach=BOTH[:1]), a_line()]
    assert Planner(a_plan(), PRICES, 100.0).models(lines) == [None, None, "cheap", "dear"]


def test_a_line_that_nobody_at_home_could_answer_goes_first() -> None:
    lines = [a_line(), a_line(is_answered=False, features=None), a_line()]
    assert Planner(a_plan(), PRICES, 0.015).models(lines) == [None, "cheap", None]


def test_what_is_held_of_a_request_is_numbers_and_names_of_ours() -> None:
    decision = a_decision()
    held = held_of(a_request(), decision, a_draft())
    assert held is not None
    assert held.features is not None
    assert len(held.features) == len(FEATURES)
    assert (held.is_answered, held.prompt_tokens) == (True, 5)
    assert dict(held.reach) == {"gpt-4o-mini": "eu", "gpt-4o": "eu"}
    failed = held_of(a_request(), decision, None)
    assert failed is not None
    assert (failed.is_answered, failed.features) == (False, None)
    assert failed.prompt_tokens > 10
    unsure = held_of(a_request(), decision, a_draft(logprobs=()))
    assert unsure is not None
    assert (unsure.is_answered, unsure.features) == (True, None)


def test_a_line_that_wants_many_answers_costs_as_many() -> None:
    lines = [a_line(num_answers=8), a_line(), a_line()]
    assert Planner(a_plan(), PRICES, 0.035).models(lines) == [None, "cheap", "cheap"]
    held = held_of(a_request({**a_body(), "n": 8}), a_decision(), a_draft())
    assert held is not None
    assert held.num_answers == 8


def test_a_server_that_counts_no_tokens_makes_no_line_cheap() -> None:
    request = a_request(a_body("word " * 400))
    held = held_of(request, a_decision(), replace(a_draft(), prompt_tokens=0))
    failed = held_of(request, a_decision(), None)
    assert held is not None
    assert failed is not None
    assert held.prompt_tokens == failed.prompt_tokens > 400


def test_nothing_is_held_of_what_no_plan_can_move() -> None:
    draft = a_draft()
    assert held_of(a_request(), a_decision(Action.LOCAL_ONLY), draft) is None
    assert held_of(a_request({**a_body(), "model": "gpt-4o"}), a_decision(), draft) is None
    assert held_of(replace(a_request(), route="embeddings"), a_decision(), draft) is None
