"""Measures what a question's vector adds to the learned estimator, on drafts of the embedded model.

Run: ``python -m bench.vectors FOLDER --keep FILE``, where FOLDER holds public questions of several
kinds (`SETS`). Each is answered by SmolLM2-135M-Instruct in the engine of the embedded server, five
alternatives a token, and graded; FILE keeps features, grades and vectors, numbers alone, so that a
run that was ended goes on from there. THE CLOUD IS ASSUMED to answer everything right, so an
ordering of drafts is all that is measured. No question or answer is shown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from proxy.local.engine import MAX_BATCH, Engine, Generation
from proxy.routing.collect import request_of
from proxy.routing.curve import auroc, curve, reach
from proxy.routing.features import FEATURES, features_of
from proxy.routing.grading import is_correct
from proxy.routing.rows import Flags, Floats, Item, item_of
from proxy.routing.training import Kind, out_of_fold, train
from proxy.settings import Settings
from proxy.types import Draft

SETS: Final = (
    "arc_easy",
    "boolq",
    "commonsenseqa",
    "nq_open",
    "openbookqa",
    "opentriviaqa",
    "snips",
    "strategyqa",
    "svamp",
    "triviaqa",
    "webquestions",
)
NUM_TOP: Final = 5
#: Other folds each time, to see how much chance there is in a figure.
NUM_REPEATS: Final = 3
NUM_DRAWS: Final = 500


@dataclass(frozen=True, slots=True)
class Rows:
    """Drafts as columns: features and vectors of shape ``(num_rows, …)``, grades and sets."""

    features: Floats
    vectors: Floats
    right: Flags
    sets: np.ndarray[tuple[int], np.dtype[np.str_]]

    def __len__(self) -> int:
        return len(self.right)

    def take(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]] | Flags) -> Rows:
        """These rows only."""
        return Rows(*(getattr(self, name)[rows] for name in self.__slots__))


def items_of(root: Path, number: int) -> Iterator[tuple[str, Item]]:
    """The first questions of each set."""
    for name in SETS:
        with gzip.open(root / name / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
            found = [item for line in lines if (item := item_of(line)) is not None]
        yield from ((name, item) for item in found[:number])


def draft_of(made: Generation) -> Draft:
    """The draft that the proxy would make of an answer of the engine."""
    return Draft(
        text=made.text,
        tokens=tuple(token.data.decode("utf-8", "replace") for token in made.tokens),
        token_logprobs=tuple(token.logprob for token in made.tokens),
        finish_reason=made.finish_reason,
        model="m",
        body={},
        prompt_tokens=made.num_prompt_tokens,
        completion_tokens=made.num_completion_tokens,
        elapsed_ms=0.0,
        top_logprobs=tuple(
            tuple((data.decode("utf-8", "replace"), logprob) for data, logprob in token.top)
            for token in made.tokens
        ),
    )


def answer_all(asked: Sequence[tuple[str, Item]], max_tokens: int, keep: Path) -> None:
    """Answer what ``keep`` does not hold yet, and add it there."""
    from proxy.local.encoder import Encoder
    from proxy.local.wishes import Sampling

    known = {row["id"] for row in kept(keep)}
    new = [(name, item) for name, item in asked if item.id not in known]
    if not new:
        return
    engine, encoder = (
        Engine(Settings().model_dir, threads=1),
        Encoder(Settings().embedding_model_dir),
    )
    sampling = Sampling(max_tokens=max_tokens, num_top=NUM_TOP)
    for start in range(0, len(new), MAX_BATCH):
        part = new[start : start + MAX_BATCH]
        jobs = [engine.submit([("user", item.prompt)], sampling) for _, item in part]
        vectors, _ = encoder.encode([item.prompt for _, item in part])
        with keep.open("a") as lines:
            for (name, item), job, vector in zip(part, jobs, vectors, strict=True):
                draft = draft_of(job.done.result())
                features = features_of(request_of(item), draft)
                row = {"id": item.id, "set": name, "right": is_correct(draft.text, item)}
                lines.write(json.dumps({**row, "features": features, "vector": vector}) + "\n")
        print(f"\r{start + len(part)} of {len(new)}", end="", file=sys.stderr)
    engine.close()


def kept(keep: Path) -> Iterator[dict[str, object]]:
    """The rows in ``keep``."""
    if keep.exists():
        yield from (json.loads(line) for line in keep.read_text().splitlines())


def rows_of(keep: Path, asked: set[str]) -> Rows:
    """The rows that have evidence, as columns."""
    found = [r for r in kept(keep) if r["features"] is not None and r["id"] in asked]
    return Rows(
        features=np.array([r["features"] for r in found], dtype=np.float64),
        vectors=turned(np.array([r["vector"] for r in found], dtype=np.float64)),
        right=np.array([bool(r["right"]) for r in found]),
        sets=np.array([str(r["set"]) for r in found]),
    )


def columns(rows: Rows, num_dimensions: int | None) -> Floats:
    """What the estimator looks at; with so many dimensions of the vectors, None: all of them.

    Fewer are those along which the vectors differ most (no grade is looked at for that).
    """
    if num_dimensions == 0:
        return rows.features
    return np.column_stack([rows.features, rows.vectors[:, :num_dimensions]])


def turned(vectors: Floats) -> Floats:
    """The vectors in the directions along which they differ most, the first one first."""
    centered = vectors - vectors.mean(axis=0)
    return np.asarray(centered @ np.linalg.svd(centered, full_matrices=False)[2].T)


def names_of(values: Floats) -> list[str]:
    """A name for each column."""
    return [str(number) for number in range(values.shape[1])]


#: What is compared: a name, the dimensions of the vectors (None: all), and how it is trained.
MODELS: Final[tuple[tuple[str, int | None, Kind], ...]] = (
    ("learned", 0, "logistic"),
    ("ridge", 0, "ridge"),
    ("+ 16 dim.", 16, "ridge"),
    ("+ vector", None, "ridge"),
    ("boosted", 0, "boosting"),
    ("b. + 16 dim.", 16, "boosting"),
)


def scores_of(rows: Rows, seed: int) -> dict[str, Floats]:
    """Each ordering, out of fold, over folds of their own for each ``seed``."""
    order = np.random.default_rng(seed).permutation(len(rows))
    mixed, found = rows.take(order), {"mean": rows.features[:, FEATURES.index("mean_logprob")]}
    for name, size, kind in MODELS:
        values = columns(mixed, size)
        back = np.empty(len(rows))
        back[order] = out_of_fold(names_of(values), values, mixed.right, kind)
        found[name] = back
    return found


def show_orderings(rows: Rows) -> None:
    """The reach of each ordering, pooled and within each set, over several foldings."""
    cloud = np.ones(len(rows), dtype=bool)
    told = [scores_of(rows, seed) for seed in range(NUM_REPEATS)]
    names = list(told[0])
    print(f"\nreach, 5 folds, {NUM_REPEATS} foldings (± one standard deviation over these)")
    print(f"{'set':<15}{'rows':>6}{'right':>8}" + "".join(f"{name:>16}" for name in names))
    everything = np.ones(len(rows), dtype=bool)
    for name, mask in (("all", everything), *((one, rows.sets == one) for one in SETS)):
        right = rows.right[mask]
        cells = []
        for score in names:
            found = [reach(one[score][mask], right, cloud[mask]) for one in told]
            cells.append(f"{np.mean(found):>9.3f} ± {np.std(found):.3f}")
        print(f"{name:<15}{mask.sum():>6}{right.mean():>8.1%}" + " ".join(cells))
    for score in names:
        at = np.mean([curve(one[score], rows.right, cloud).at(0.38) for one in told])
        area = np.mean([auroc(one[score], rows.right) for one in told])
        print(f"all, {score}: AUROC {area:.3f}, right at 38 % sent {at:.1%}")


def show_gain(rows: Rows) -> None:
    """What the vectors add over other draws of the rows, and what the set alone would add."""
    cloud, random = np.ones(len(rows), dtype=bool), np.random.default_rng(0)
    found = scores_of(rows, 0)
    draws = [random.integers(0, len(rows), len(rows)) for _ in range(NUM_DRAWS)]

    def gain(name: str, drawn: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        ours, plain = (found[one][drawn] for one in (name, "learned"))
        right = rows.right[drawn]
        return reach(ours, right, cloud) - reach(plain, right, cloud)

    print(f"\nmore reach than learned, {NUM_DRAWS} draws of the rows")
    for name in ("+ 16 dim.", "+ vector"):
        gains = [gain(name, drawn) for drawn in draws]
        low, high = np.quantile(gains, [0.025, 0.975])
        print(f"{name:<12}{np.mean(gains):>+8.3f}  95 %: {low:+.3f} to {high:+.3f}")
    is_of = (rows.sets[:, None] == np.array(SETS)).astype(np.float64)
    for name, size in (("the set", 0), ("the set + 16 dim.", 16)):
        values = np.column_stack([columns(rows, size), is_of])
        told = out_of_fold(names_of(values), values, rows.right, "ridge")
        print(f"learned from {name}: {reach(told, rows.right, cloud):.3f}")


def show_other_traffic(rows: Rows) -> None:
    """The reach within a set that nothing was learned from."""
    print(f"\nreach within a set that was left out\n{'set':<15}{'mean':>8}", end="")
    print("".join(f"{name:>14}" for name, _, _ in MODELS))
    sums: list[list[float]] = []
    for name in SETS:
        out = rows.sets == name
        seen, unseen = rows.take(~out), rows.take(out)
        cloud = np.ones(len(unseen), dtype=bool)
        mean = unseen.features[:, FEATURES.index("mean_logprob")]
        found = [reach(mean, unseen.right, cloud)]
        for _, vectors, kind in MODELS:
            model = train(
                names_of(columns(seen, vectors)), columns(seen, vectors), seen.right, kind
            )
            told = [model.probability(row) for row in columns(unseen, vectors).tolist()]
            found.append(reach(np.array(told), unseen.right, cloud))
        sums.append(found)
        print(f"{name:<15}{found[0]:>8.3f}" + "".join(f"{one:>14.3f}" for one in found[1:]))
    means = np.mean(sums, axis=0)
    print(f"{'mean':<15}{means[0]:>8.3f}" + "".join(f"{one:>14.3f}" for one in means[1:]))


def show_cost(rows: Rows) -> None:
    """Time of one score without and with a vector, the encoder's call left out."""
    for name, size, kind in MODELS:
        values = columns(rows, size)
        model = train(names_of(values), values, rows.right, kind)
        row = values[0].tolist()
        started = time.perf_counter()
        for _ in range(200):
            model.probability(row)
        print(f"{name}: {(time.perf_counter() - started) * 5:.3f} ms a score")


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300, help="of each set, at most")
    parser.add_argument("--max-tokens", type=int, default=24)
    options = parser.parse_args()
    asked = list(items_of(options.folder, options.rows))
    answer_all(asked, options.max_tokens, options.keep)
    rows = rows_of(options.keep, {item.id for _, item in asked})
    print(f"\n{len(rows):,} drafts of at most {options.max_tokens} tokens")
    show_orderings(rows)
    show_gain(rows)
    show_other_traffic(rows)
    show_cost(rows)


if __name__ == "__main__":
    main()
