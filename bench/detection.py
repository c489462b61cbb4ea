"""Scores detection on the evaluation sets against stock Presidio, in the same run.

Both are judged alike: their findings go through ``policies/default.yaml``, and a text counts as
kept if the policy would not let it leave. Prints counts and shares, never a row.

Run: ``python -m bench.detection FOLDER [--write]``, where FOLDER holds the sets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.corpora import NEGATIVES, PII_SETS, SECRET_SETS, SOFT, Row, read_corpus
from bench.detectors import Inspect, ours, stock
from bench.plots import Pair, draw
from bench.serving import Serving, measure
from proxy.policy.decide import Context, decide
from proxy.policy.source import FilePolicySource
from proxy.types import Action, Caller, Inspection

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "benchmarks" / "detection.md"
CONTEXT: Final = Context(
    Caller("bench", "bench", "bench", "bench"),
    "chat.completions",
    "ringfence",
    datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass(slots=True)
class Score:
    """What one detector reached on one set, or on one class of negatives."""

    kept: int = 0
    total: int = 0
    spans_found: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    chars: int = 0

    def add(self, other: Score) -> None:
        """Count what ``other`` counted as well."""
        self.kept += other.kept
        self.total += other.total
        self.spans += other.spans
        self.spans_found += other.spans_found
        self.seconds += other.seconds
        self.chars += other.chars

    @property
    def share(self) -> float:
        """Share of the texts that were kept, in [0, 1]."""
        return self.kept / self.total if self.total else 0.0

    @property
    def hard_span_recall(self) -> float | None:
        """Share of the hard labels' spans of which at least half was found, in [0, 1]."""
        labels = [label for label in self.spans if label not in SOFT]
        total = sum(self.spans[label] for label in labels)
        return sum(self.spans_found[label] for label in labels) / total if total else None


def score(rows: Iterable[Row], inspect: Inspect) -> Score:
    """Inspect ``rows`` and count."""
    policy = FilePolicySource(ROOT / "policies" / "default.yaml").load()
    made = Score()
    for row in rows:
        started = time.perf_counter()
        inspection = inspect(row.text)
        made.seconds += time.perf_counter() - started
        made.chars += len(row.text)
        made.total += 1
        decision = decide(policy, CONTEXT, inspection, decision_id="bench")
        made.kept += decision.action is not Action.ALLOW
        _count_spans(row, inspection, made)
    return made


def _count_spans(row: Row, inspection: Inspection, made: Score) -> None:
    texts = {s.index for s in inspection.segments if s.text == row.text}
    covered = {
        place
        for finding in inspection.findings
        if finding.segment in texts
        for place in range(finding.start, finding.end)
    }
    for span in row.spans:
        if span.label not in row.private_labels:
            continue
        made.spans[span.label] += 1
        inside = sum(place in covered for place in range(span.start, span.end))
        made.spans_found[span.label] += 2 * inside >= span.end - span.start


@dataclass(slots=True)
class Numbers:
    """What a run gave: pairs of stock Presidio's number and ours."""

    recall: list[Pair] = field(default_factory=list)  # share kept of texts that hold something
    flags: list[Pair] = field(default_factory=list)  # share kept of harmless texts
    times_ms: list[Pair] = field(default_factory=list)
    total: dict[str, Score] = field(default_factory=dict)


def tables(root: Path, detectors: dict[str, Inspect], numbers: Numbers) -> Iterator[str]:
    """The lines of the page, table by table; fills ``numbers``."""
    yield "## Texts that hold something: share kept home\n"
    yield "![share kept home, by set](detection-recall.png)\n"
    yield "| set | texts | stock Presidio | Ringfence | hard spans: stock | hard spans: Ringfence |"
    yield "|---|---|---|---|---|---|"
    total = numbers.total = {name: Score() for name in detectors}
    for corpus in PII_SETS + SECRET_SETS:
        rows = [row for row in _report_half(root, corpus) if _must_stay(row)]
        scores = {name: score(rows, inspect) for name, inspect in detectors.items()}
        numbers.recall.append(_pair(corpus, scores))
        yield _row(corpus, scores)
        for name, got in scores.items():
            total[name].add(got)
    yield "\n## Spans found, by label\n"
    yield "| label | spans | stock Presidio | Ringfence |\n|---|---|---|---|"
    for label, count in total["ringfence"].spans.most_common():
        shares = (total[n].spans_found[label] / count for n in ("stock", "ringfence"))
        yield f"| {label} | {count} | " + " | ".join(f"{share:.3f}" for share in shares) + " |"
    yield "\n## Harmless texts: share kept home all the same\n"
    yield "![share of harmless texts kept home, by class](detection-flags.png)\n"
    yield "| class | texts | stock Presidio | Ringfence |\n|---|---|---|---|"
    yield from _negatives(root, detectors, numbers)


def _row(corpus: str, scores: dict[str, Score]) -> str:
    cells = [corpus, str(scores["ringfence"].total)]
    cells += [f"{scores[name].share:.3f}" for name in ("stock", "ringfence")]
    for name in ("stock", "ringfence"):
        recall = scores[name].hard_span_recall
        cells.append("-" if recall is None else f"{recall:.3f}")
    return f"| {' | '.join(cells)} |"


def _pair(name: str, scores: dict[str, Score]) -> Pair:
    label = f"{name} ({scores['ringfence'].total:,})"
    return Pair(label, scores["stock"].share, scores["ringfence"].share)


def _negatives(root: Path, detectors: dict[str, Inspect], numbers: Numbers) -> Iterator[str]:
    rows = list(_report_half(root, NEGATIVES))
    total = {name: Score() for name in detectors}
    for kind in sorted({row.kind for row in rows}):
        chosen = [row for row in rows if row.kind == kind]
        scores = {name: score(chosen, inspect) for name, inspect in detectors.items()}
        numbers.flags.append(_pair(kind, scores))
        yield _share_row(kind, scores)
        for name, got in scores.items():
            total[name].add(got)
    numbers.flags.append(_pair("all", total))
    yield _share_row("all", total)


def _share_row(kind: str, scores: dict[str, Score]) -> str:
    shares = " | ".join(f"{scores[name].share:.3f}" for name in ("stock", "ringfence"))
    return f"| {kind} | {scores['ringfence'].total} | {shares} |"


def speed(numbers: Numbers, detectors: dict[str, Inspect], serving: Serving) -> Iterator[str]:
    """The lines on time and memory; fills ``numbers``."""
    rates = {name: got.chars / got.seconds for name, got in numbers.total.items()}
    yield "\n## Speed\n"
    yield "![milliseconds for a request](detection-ms.png)\n"
    yield "| | stock Presidio | Ringfence | ratio |\n|---|---|---|---|"
    yield _ratio("characters a second, all sets", rates["stock"], rates["ringfence"])
    for size in (140, 4000):
        took, _ = cold_ms(detectors, size)
        pair = Pair(f"{size:,} characters, never seen", took["stock"], took["ringfence"])
        numbers.times_ms.append(pair)
        yield _ratio(f"ms for {pair.label}", pair.stock, pair.ours)
    turn = Pair("turn 21 of a chat of 20,000 characters", serving.stock_ms, serving.ours_ms)
    numbers.times_ms.append(turn)
    yield _ratio(f"ms for {turn.label}", turn.stock, turn.ours)
    yield f"| MiB of the largest detector process | - | {serving.memory_mib:,.0f} | - |"
    yield f"| lines a minute, `ringfence inspect --jsonl` | - | {serving.lines_a_minute:,.0f} | - |"
    yield (
        f"\nLoad average at the end: {os.getloadavg()[1]:.1f}, on {os.cpu_count()} cores. "
        "A busy machine stretches all of these; the ratios hold."
    )
    yield (
        "\nThe first three rows: no cache, both in one process on one core, on plain English prose "
        "with one name. Turn 21: Ringfence as it serves, with its detector process and its cache; "
        "stock Presidio reads the whole history anew, as a proxy without a cache of segments must."
    )


def cold_ms(
    detectors: dict[str, Inspect], size: int, runs: int = 25
) -> tuple[dict[str, float], float]:
    """Median ms of each for texts of ``size`` characters that it never saw, and of stock over ours.

    Each text goes through both, in turns the one or the other first, so that what the machine does
    beside this meets both alike.
    """
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for run in range(runs + 1):
        sentence = f"In chapter {run}, the harbour master Ilse Brandt counts the boats again. "
        text = (sentence * (size // len(sentence) + 1))[:size]
        for name in list(detectors)[:: 1 if run % 2 else -1]:
            started = time.perf_counter()
            detectors[name](text)
            times[name].append((time.perf_counter() - started) * 1000)
    ratios = [a / b for a, b in zip(times["stock"][1:], times["ringfence"][1:], strict=True)]
    told = {name: statistics.median(each[1:]) for name, each in times.items()}
    return told, statistics.median(ratios)


def show_cold(detectors: dict[str, Inspect]) -> None:
    """What a text that was never seen costs, and nothing else."""
    for size in (140, 4000):
        took, ratio = cold_ms(detectors, size)
        print(
            f"{size:,} characters: stock {took['stock']:.1f} ms, ours {took['ringfence']:.1f} ms; "
            f"stock over ours, median of pairs: {ratio:.2f}"
        )


def _ratio(name: str, first: float, second: float) -> str:
    return f"| {name} | {first:,.1f} | {second:,.1f} | {second / first:.2f} |"


def _report_half(root: Path, corpus: str) -> Iterator[Row]:
    return (row for row in read_corpus(root, corpus) if not row.is_development)


def _must_stay(row: Row) -> bool:
    return row.kind == "secret" if row.corpus in SECRET_SETS else row.has_hard_label


HEAD: Final = """# Detection

Made by `python -m bench.detection FOLDER --write`, on third-party sets that nobody here wrote, on
the half that no rule was tuned on. Texts are judged one by one, as a user message, by
`policies/default.yaml`: "kept home" means that the policy would not let the text leave. Stock
Presidio is `AnalyzerEngine` as it comes, with the same small spaCy model, its findings judged by
the same policy. A text in a language the proxy does not read (Spanish, Polish, Chinese ...) is
kept home by Ringfence because names in it cannot be inspected. "Hard" labels are those that the
default policy keeps home; places, organizations, dates and the like alone are not.
"""


def main() -> None:
    """Print the tables, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the sets")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--cold", action="store_true", help="only time texts never seen")
    arguments = parser.parse_args()
    detectors = {"stock": stock(), "ringfence": ours()}
    if arguments.cold:
        show_cold(detectors)
        return
    numbers = Numbers()
    lines = []
    for line in tables(arguments.folder, detectors, numbers):
        print(line, flush=True)
        lines.append(line)
    for line in speed(numbers, detectors, measure()):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        PAGE.write_text(HEAD + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
        draw(PAGE.parent, numbers.recall, numbers.flags, numbers.times_ms)


if __name__ == "__main__":
    main()
