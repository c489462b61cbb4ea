"""Measures what early exit saves, and that it changes no route, on drafts of the embedded model.

Run: ``python -m bench.early_exit FOLDER``, where FOLDER holds ``nq_open`` and ``triviaqa`` (public
short questions). Each is answered whole by SmolLM2-135M-Instruct in the engine of the embedded
server; then the same log-probabilities are watched for each estimator and threshold.
``--keep FILE`` keeps them, numbers alone, a draft a line: a run that was ended goes on from there.
No question or answer is shown.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Final

import numpy as np

from proxy.routing.doom import doom_of
from proxy.routing.signals import SIGNALS
from proxy.settings import Settings
from proxy.types import Draft

SETS: Final = ("nq_open", "triviaqa")
ESTIMATORS: Final = ("mean_logprob", "min", "quantile_05", "quantile_10", "quantile_25")

#: Shares of drafts that the thresholds escalate.
SHARES: Final = (0.2, 0.38, 0.6, 0.8)

Drafts = list[list[float]]


def questions(root: Path, number: int) -> list[str]:
    """The first questions of each set, in turn."""
    found: list[str] = []
    for name in SETS:
        with gzip.open(root / name / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
            found += [str(json.loads(line)["question"]) for line in lines][
                : -(-number // len(SETS))
            ]
    return found[:number]


def drafts_of(asked: list[str], max_tokens: int, keep: Path | None) -> Drafts:
    """The log-probabilities of the embedded model's answer to each question; see ``--keep``."""
    from proxy.local.engine import MAX_BATCH, Engine
    from proxy.local.wishes import Sampling

    kept = keep.read_text().splitlines() if keep is not None and keep.exists() else []
    found: Drafts = [json.loads(line) for line in kept][: len(asked)]
    if len(found) == len(asked):
        return found
    engine = Engine(Settings().model_dir, threads=1)
    for start in range(len(found), len(asked), MAX_BATCH):
        sampling = Sampling(max_tokens=max_tokens)
        jobs = [
            engine.submit([("user", text)], sampling) for text in asked[start : start + MAX_BATCH]
        ]
        new = [[token.logprob for token in job.done.result().tokens] for job in jobs]
        if keep is not None:
            with keep.open("a") as lines:
                lines.writelines(f"{json.dumps(one)}\n" for one in new)
        found += new
        print(f"\r{len(found)} of {len(asked)}", end="", file=sys.stderr)
    engine.close()
    return found


def draft(logprobs: list[float]) -> Draft:
    """A draft with these log-probabilities."""
    tokens = ("t",) * len(logprobs)
    return Draft("", tokens, tuple(logprobs), "stop", "m", {}, 0, len(tokens), 0.0)


def show(drafts: Drafts, max_tokens: int) -> None:
    """Routes with and without, and the share of local tokens saved."""
    total = sum(map(len, drafts))
    print(f"{len(drafts):,} drafts of {total / len(drafts):.1f} tokens, at most {max_tokens}")
    print(
        f"{'estimator':<14}{'sent':>7}{'threshold':>11}{'cut':>8}{'other routes':>14}{'saved':>8}"
    )
    for name in ESTIMATORS:
        scores = [SIGNALS[name].score(None, draft(one)) for one in drafts]  # type: ignore[arg-type]
        known = np.array([score for score in scores if score is not None])
        for share in SHARES:
            threshold = float(np.quantile(known, share))
            num_cut, changed, saved = replay(name, threshold, drafts, max_tokens)
            sent = float((known < threshold).mean())
            print(
                f"{name:<14}{sent:>7.1%}{threshold:>11.3f}{num_cut / len(drafts):>8.1%}"
                f"{changed:>14}{saved / total:>8.1%}"
            )


def replay(name: str, threshold: float, drafts: Drafts, max_tokens: int) -> tuple[int, int, int]:
    """Drafts cut, routes that differ (by the whole draft or by its beginning), tokens saved."""
    num_cut, changed, saved = 0, 0, 0
    score = SIGNALS[name].score
    for logprobs in drafts:
        doomed = doom_of(name, threshold, {"max_tokens": max_tokens})
        if doomed is None:
            raise ValueError(name)
        at = next((n for n, logprob in enumerate(logprobs, 1) if doomed(logprob)), None)
        if at is None:
            continue
        ends = [score(None, draft(part)) for part in (logprobs, logprobs[:at])]  # type: ignore[arg-type]
        changed += not all(end is not None and end < threshold for end in ends)
        num_cut, saved = num_cut + 1, saved + len(logprobs) - at
    return num_cut, changed, saved


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--drafts", type=int, default=2000)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    asked = questions(options.folder, options.drafts)
    drafts = drafts_of(asked, options.max_tokens, options.keep)
    show(drafts, options.max_tokens)


if __name__ == "__main__":
    main()
