"""Measures what the question alone tells of a draft, and whether the pre-router keeps its promise.

Run: ``python -m bench.prerouter FOLDER``, where FOLDER holds ``router_routellm`` (MMLU and GSM8K,
answered by Mixtral-8x7B; lm-sys/RouteLLM, Apache-2.0) and ``router_llmrouter_scores`` (mixed
questions, answered by nine open models; ulab-uiuc/LLMRouter, MIT). No log-probabilities are on
record there, so a draft "stays" where the answer was right: a cascade that makes no mistake.
``--keep FILE.json`` keeps the vectors for the next run. No question is shown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxy.routing.collect import request_of
from proxy.routing.curve import auroc
from proxy.routing.features import QUESTION_FEATURES
from proxy.routing.foreseeing import Promise, ahead_below
from proxy.routing.prerouter import feature_names, question_values
from proxy.routing.rows import Flags, Floats, Item
from proxy.routing.training import out_of_fold, train
from proxy.settings import Settings

#: Models of `router_llmrouter_scores` that one would run at home.
MODELS = ("llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3", "qwen2.5-7b-instruct")
NUM_SPLITS = 200
PROMISES = (0.02, 0.05, 0.1)
ERROR_RATE = 0.05
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Set:
    """Questions and which of them the model at home answered right."""

    name: str
    questions: list[str]
    right: Flags


def sets_of(root: Path, most: int) -> Iterator[Set]:
    """The sets, each of at most ``most`` rows, drawn by a fixed seed."""
    rows = _rows(root / "router_routellm", most)
    yield Set("Mixtral-8x7B", *_graded([(row["question"], row["weak"]) for row in rows]))
    rows = _rows(root / "router_llmrouter_scores", most)
    for model in MODELS:
        pairs = [(r["question"], r["scores"][model] > 0.5) for r in rows if model in r["scores"]]
        yield Set(model, *_graded(pairs))


def _rows(folder: Path, most: int) -> list[dict[str, Any]]:
    with gzip.open(folder / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows[index] for index in order]


def _graded(pairs: list[tuple[str, object]]) -> tuple[list[str], Flags]:
    return [question for question, _ in pairs], np.array([bool(right) for _, right in pairs])


class Vectors:
    """The encoder's vectors, kept in a file where one is named."""

    def __init__(self, keep: Path | None) -> None:
        self._keep = keep
        self._known: dict[str, list[float]] = {}
        if keep is not None and keep.exists():
            self._known = json.loads(keep.read_text())

    def of(self, questions: list[str]) -> tuple[list[list[float]], float]:
        """A vector for each question, and the ms that one new question took (0: all known)."""
        from proxy.local.encoder import Encoder

        new = sorted({one for one in questions if one not in self._known}, key=len)
        started = time.perf_counter()
        if new:
            encoder = Encoder(Settings().embedding_model_dir)
            for start in range(0, len(new), _BATCH):
                batch = new[start : start + _BATCH]
                self._known |= dict(zip(batch, encoder.encode(batch)[0], strict=True))
                print(f"\r{start + len(batch)} of {len(new)} encoded", end="", file=sys.stderr)
        took_ms = (time.perf_counter() - started) * 1000 / max(len(new), 1)
        if self._keep is not None:
            self._keep.write_text(json.dumps(self._known))
        return [self._known[one] for one in questions], took_ms if new else 0.0


def features_of(one: Set, vectors: list[list[float]]) -> Floats:
    """The pre-router's features, shape ``(num_rows, num_features)``."""
    items = [Item(str(n), question, ("x",)) for n, question in enumerate(one.questions)]
    pairs = zip(items, vectors, strict=True)
    return np.array([question_values(request_of(item), vector) for item, vector in pairs])


def show_orderings(one: Set, values: Floats) -> None:
    """How well the form alone, and the form with the vector, order the drafts; out of fold."""
    num_form = len(QUESTION_FEATURES)
    form = out_of_fold(QUESTION_FEATURES, values[:, :num_form], one.right, "ridge")
    names = feature_names(values.shape[1] - num_form)
    both = out_of_fold(names, values, one.right, "ridge")
    told = f"{auroc(form, one.right):>8.3f}{auroc(both, one.right):>16.3f}"
    print(f"{one.name:<26}{len(one.right):>6,}{one.right.mean():>8.1%}{told}")


def show_promises(one: Set, values: Floats) -> None:
    """Over splits: what goes ahead, in vain, and how often more than promised.

    The model learns from a half, once; the other half is the world. Draws of 500 from it test the
    promise, and all of it tells how much really goes in vain.
    """
    order = np.random.default_rng(1).permutation(len(one.right))
    half, world = np.array_split(order, 2)
    names = feature_names(values.shape[1] - len(QUESTION_FEATURES))
    model = train(names, values[half], one.right[half], "ridge")
    chances = np.array([model.probability(row) for row in values[world].tolist()])
    stays = one.right[world]
    for in_vain in PROMISES:
        random = np.random.default_rng(2)
        missed, ahead = 0, []
        for _ in range(NUM_SPLITS):
            drawn = random.integers(0, len(world), 500)
            chosen = ahead_below(chances[drawn], stays[drawn], Promise(in_vain, ERROR_RATE))
            goes = chances < (0.0 if chosen is None else chosen)
            ahead.append(float(goes.mean()))
            missed += float((goes & stays).mean()) > in_vain
        most = float((~stays).mean())
        print(
            f"{one.name:<26}{in_vain:>9.0%}{np.mean(ahead):>9.1%}{most:>14.1%}"
            f"{missed / NUM_SPLITS:>9.1%}"
        )


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2500, help="of each set, at most")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    vectors = Vectors(options.keep)
    each = list(sets_of(options.folder, options.rows))
    told = [vectors.of(one.questions) for one in each]
    print(f"\nthe encoder takes {max(ms for _, ms in told):.1f} ms a question, 32 at a time")
    both = [(one, features_of(one, found)) for one, (found, _) in zip(each, told, strict=True)]
    print(
        f"\n{'model at home':<26}{'rows':>6}{'right':>8}{'form':>8}{'form + vector':>16}   (AUROC)"
    )
    for one, values in both:
        show_orderings(one, values)
    print(f"\n{'model at home':<26}{'promised':>9}{'ahead':>9}{'could go most':>14}{'missed':>9}")
    for one, values in both:
        show_promises(one, values)


if __name__ == "__main__":
    main()
