"""Tables of graded exchanges with known properties, for the tests of calibration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from proxy.routing.calibration import PROMPT_FORM
from proxy.routing.chain import Chain
from proxy.routing.foreseeing import Promise, learn, split
from proxy.routing.ladder import Ladder
from proxy.routing.prerouter import Foresight, question_values
from proxy.routing.rows import Floats, Graded, Table
from proxy.types import JSON, Draft, Request
from tests.factories import a_request
from tests.fakes import FakeLocal


def a_table(rows: int = 400, seed: int = 0, cloud: float = 0.95) -> Table:
    """Local is right with the probability that its score says; the cloud with ``cloud``."""
    random = np.random.default_rng(seed)
    score = -random.exponential(0.5, rows)
    zeros: Floats = np.zeros(rows)
    return Table(
        score=score,
        doubts=zeros.astype(bool),
        local=random.random(rows) < np.exp(score),
        cloud=random.random(rows) < cloud,
        local_ms=zeros + 100.0,
        cloud_ms=zeros + 2000.0,
        cost_usd=zeros + 0.01,
    )


def write_rows(path: Path, table: Table) -> Path:
    """The table as a data file with both answers on record."""
    lines = []
    for index in range(len(table)):
        logprobs = {"content": [{"token": "x", "logprob": float(table.score[index])}]}
        row: dict[str, Any] = {
            "id": f"q{index}",
            "question": f"canary-4711 {index}?",
            "answers": ["yes"],
            "local": {
                "answer": "yes" if table.local[index] else "no",
                "logprobs": logprobs,
                "elapsed_ms": float(table.local_ms[index]),
            },
            "cloud": {
                "correct": bool(table.cloud[index]),
                "cost_usd": float(table.cost_usd[index]),
                "elapsed_ms": float(table.cloud_ms[index]),
            },
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


def a_ladder(rows: int = 400, seed: int = 0) -> Ladder:
    """Local, cheap and dear, at 0, 0.001 and 0.01 dollars; the first two know how sure to be."""
    random = np.random.default_rng(seed)
    score = -random.exponential((0.7, 0.3, 0.05), (rows, 3))
    right = random.random((rows, 3)) < np.exp(score)
    costs = np.tile([0.0, 0.001, 0.01], (rows, 1))
    return Ladder(
        ("local", "cheap", "dear"),
        score,
        np.zeros((rows, 3), dtype=bool),
        right,
        costs,
        costs * 0,
        costs * 1e5,
        score[:, :1],
    )


EASY, HARD = "easy", "hard"


class FakeEncoder(FakeLocal):
    """Vectors of two numbers: a text that says so is hard."""

    async def generate(self, request: Request) -> Draft:
        draft = await super().generate(request)
        texts = request.body["input"]
        assert isinstance(texts, list)
        data: list[JSON] = [{"embedding": self.vector(str(text))} for text in texts]
        return replace(draft, body={"data": data})

    def vector(self, text: str) -> Sequence[JSON]:
        return [1.0 if HARD in text else -1.0, 0.5]


def foreseen_rows(
    number: int = 900, seed: int = 0
) -> tuple[list[Graded], dict[str, tuple[float, ...]]]:
    """Hard questions get an unsure draft, easy ones a sure one; one in fifty the reverse."""
    random = np.random.default_rng(seed)
    graded, features = [], {}
    for n in range(number):
        hard = random.random() < 0.4
        unsure = hard ^ bool(random.random() < 0.02)
        vector = [(1.0 if hard else -1.0) + random.normal(0, 0.2), random.normal()]
        graded.append(Graded(f"q{n}", -2.0 if unsure else -0.1, False, not unsure, True))
        features[f"q{n}"] = question_values(a_request(), vector)
    return graded, features


def a_foresight() -> Foresight:
    graded, features = foreseen_rows()
    return learn(features, split(graded), -0.5, Promise(0.05, 0.05), "e")


def a_chain(*clouds: str, threshold: float = -0.5, **more: Any) -> Chain:
    """A chain of ``clouds``, each but the last left below ``threshold``, as the local model is."""
    made: dict[str, Any] = {
        "model": "local",
        "model_digest": None,
        "prompt_form": PROMPT_FORM,
        "estimator": "mean_logprob",
        "threshold": threshold,
        "goal": "within 1% of cloud",
        "bound": 0.01,
        "delta": 0.05,
        "num_rows": 1000,
        "data_digest": "sha256:" + "0" * 64,
        "expected_share": 0.3,
        "expected_accuracy": 0.9,
        "curve": ((0.0, 0.7), (1.0, 0.95)),
        "made_at": datetime.now(UTC).isoformat(),
        "spread_bounds": (-0.5,),
        "spread_shares": (0.5, 0.4, 0.1),
        "clouds": clouds,
        "thresholds": (threshold,) * (len(clouds) - 1),
        "ends": (1 / (len(clouds) + 1),) * (len(clouds) + 1),
        "expected_usd": 0.002,
    }
    return Chain(**(made | more))
