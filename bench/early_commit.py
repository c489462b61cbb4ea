"""Measures early commit on drafts of the embedded model: how many are told early, how soon, and how
often its promise is broken.

Run: ``python -m bench.early_commit FILE``, where FILE is what `bench.early_exit --keep` left: the
log-probabilities of a draft a line. The file is the population, of which the share told early and
wrongly is known for each threshold. 200 times half as many rows are drawn from it, with
replacement, and calibrated on. A promise is broken where the population has more than was promised.
No question or answer is shown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.early_exit import SHARES, draft
from proxy.errors import SettingsError
from proxy.routing.committing import AFTER_TOKENS, commit, score_of_beginning
from proxy.routing.rows import Flags, Floats
from proxy.routing.signals import SIGNALS

#: Seen from an estimator whose beginning tells much of the end, and from two that it does not.
ESTIMATORS: Final = ("mean_logprob", "quantile_10", "min")
NUM_TOKENS: Final = (8, AFTER_TOKENS, 32)
NUM_DRAWS: Final = 200
AT_MOST: Final = 0.02
ERROR_RATE: Final = 0.05


def columns(drafts: list[list[float]], name: str, num_tokens: int) -> tuple[Floats, Floats]:
    """The score of each whole draft and of its beginning; NaN where there is none."""
    made = [draft(one) for one in drafts]
    whole = [SIGNALS[name].of(one) for one in made]
    begun = [score_of_beginning(name, one, num_tokens) for one in made]
    return (np.array(whole, dtype=np.float64), np.array(begun, dtype=np.float64))


def told(begun: Floats, escalates: Flags, rows: NDArray[np.int64], name: str) -> Flags:
    """What is told early by the threshold that ``rows`` show; nothing, where they show none."""
    try:
        made = commit(begun[rows], escalates[rows], name, AT_MOST, ERROR_RATE)
    except SettingsError:
        return np.zeros(len(begun), bool)
    return begun >= made.threshold


def show(drafts: list[list[float]]) -> None:
    """A line for each case."""
    lengths = np.array([len(one) for one in drafts])
    print(f"{len(drafts):,} drafts of {lengths.mean():.1f} tokens; at most {AT_MOST:.0%} wrongly")
    head = ("estimator", "sent", "threshold", "after", "told early", "tokens ahead", "wrongly")
    print("".join(f"{one:>14}" for one in (*head, "broken in 200")))
    random = np.random.default_rng(0)
    for name in ESTIMATORS:
        for num_tokens in NUM_TOKENS:
            whole, begun = columns(drafts, name, num_tokens)
            for share in SHARES:
                threshold = float(np.nanquantile(whole, share))
                escalates = whole < threshold
                rest = lengths - num_tokens
                seen = []
                for _ in range(NUM_DRAWS):
                    rows = random.integers(0, len(drafts), len(drafts) // 2)
                    goes = told(begun, escalates, rows, name)
                    wrongly = float((goes & escalates).mean())
                    seen.append((goes.mean(), rest[goes].sum() / lengths.sum(), wrongly))
                broken = sum(wrongly > AT_MOST for *_, wrongly in seen)
                cells = (f"{share:.0%}", f"{threshold:.3f}", f"{num_tokens}")
                shares = [f"{mean:.1%}" for mean in np.mean(seen, axis=0)]
                print("".join(f"{one:>14}" for one in (name, *cells, *shares, f"{broken}")))


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    show([json.loads(line) for line in parser.parse_args().file.read_text().splitlines()])


if __name__ == "__main__":
    main()
