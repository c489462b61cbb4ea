"""Tables of graded exchanges with known properties, for the tests of calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from proxy.routing.ladder import Ladder
from proxy.routing.rows import Floats, Table


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
            "question": "canary-4711?",
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
