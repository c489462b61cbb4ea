"""Scores detection on the evaluation sets against stock Presidio, in the same run.

Both are judged alike: their findings go through ``policies/default.yaml``, and a text counts as
kept if the policy would not let it leave. Prints counts and shares, never a row.

Run: ``python -m bench.detection FOLDER [--write]``, where FOLDER holds the sets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.corpora import NEGATIVES, PII_SETS, SECRET_SETS, SOFT, Row, read_corpus
from proxy.inspection import offline
from proxy.inspection.entities import ENTITIES
from proxy.inspection.inline import inline_inspector
from proxy.inspection.presidio import MODELS
from proxy.policy.decide import Context, decide
from proxy.policy.source import FilePolicySource
from proxy.types import (
    Action,
    Caller,
    Category,
    Coverage,
    Finding,
    Inspection,
    Origin,
    Role,
    Segment,
)

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "benchmarks" / "detection.md"
CONTEXT: Final = Context(
    Caller("bench", "bench", "bench", "bench"),
    "chat.completions",
    "ringfence",
    datetime(2026, 1, 1, tzinfo=UTC),
)

Inspect = Callable[[str], Inspection]


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


def ours() -> Inspect:
    """The product's inspection, in this process."""
    inspect = inline_inspector(("en",))
    return lambda text: inspect({"messages": [{"role": "user", "content": text}]})


def stock() -> Inspect:
    """Presidio as it comes: its default registry and the small English spaCy model."""
    offline.cut()
    with offline.without_torch():
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    models = [{"lang_code": "en", "model_name": MODELS["en"][0]}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])

    def inspect(text: str) -> Inspection:
        found = engine.analyze(text, language="en")
        findings = tuple(
            Finding(
                entity := result.entity_type,
                ENTITIES.get(entity, Category.OTHER),
                0,
                result.start,
                result.end,
                result.score,
                "stock",
            )
            for result in found
            if result.entity_type in ENTITIES
        )
        segment = Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text=text)
        return Inspection((segment,), findings, (), Coverage(1, 1, 0, 0), ("en",), (), 0.0)

    return inspect


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


def tables(root: Path, detectors: dict[str, Inspect]) -> Iterator[str]:
    """The lines of the page, table by table."""
    yield "## Texts that hold something: share kept home\n"
    yield "| set | texts | stock Presidio | Ringfence | hard spans: stock | hard spans: Ringfence |"
    yield "|---|---|---|---|---|---|"
    total = {name: Score() for name in detectors}
    for corpus in PII_SETS + SECRET_SETS:
        rows = [row for row in _report_half(root, corpus) if _must_stay(row)]
        scores = {name: score(rows, inspect) for name, inspect in detectors.items()}
        yield _row(corpus, scores)
        for name, got in scores.items():
            total[name].add(got)
    yield "\n## Spans found, by label\n"
    yield "| label | spans | stock Presidio | Ringfence |\n|---|---|---|---|"
    for label, count in total["ringfence"].spans.most_common():
        shares = (total[n].spans_found[label] / count for n in ("stock", "ringfence"))
        yield f"| {label} | {count} | " + " | ".join(f"{share:.3f}" for share in shares) + " |"
    yield "\n## Harmless texts: share kept home all the same\n"
    yield "| class | texts | stock Presidio | Ringfence |\n|---|---|---|---|"
    yield from _negatives(root, detectors)
    yield "\n## Speed\n"
    yield from _speed(total, detectors)


def _row(corpus: str, scores: dict[str, Score]) -> str:
    cells = [corpus, str(scores["ringfence"].total)]
    cells += [f"{scores[name].share:.3f}" for name in ("stock", "ringfence")]
    for name in ("stock", "ringfence"):
        recall = scores[name].hard_span_recall
        cells.append("-" if recall is None else f"{recall:.3f}")
    return f"| {' | '.join(cells)} |"


def _negatives(root: Path, detectors: dict[str, Inspect]) -> Iterator[str]:
    rows = list(_report_half(root, NEGATIVES))
    total = {name: Score() for name in detectors}
    for kind in sorted({row.kind for row in rows}):
        chosen = [row for row in rows if row.kind == kind]
        scores = {name: score(chosen, inspect) for name, inspect in detectors.items()}
        yield _share_row(kind, scores)
        for name, got in scores.items():
            total[name].add(got)
    yield _share_row("all", total)


def _share_row(kind: str, scores: dict[str, Score]) -> str:
    shares = " | ".join(f"{scores[name].share:.3f}" for name in ("stock", "ringfence"))
    return f"| {kind} | {scores['ringfence'].total} | {shares} |"


def _speed(total: dict[str, Score], detectors: dict[str, Inspect]) -> Iterator[str]:
    rates = {name: got.chars / got.seconds for name, got in total.items()}
    yield "| | stock Presidio | Ringfence | ratio |\n|---|---|---|---|"
    yield _ratio("characters a second, all sets", rates["stock"], rates["ringfence"])
    for size in (140, 4000):
        took = {name: _cold_ms(inspect, size) for name, inspect in detectors.items()}
        yield _ratio(f"ms for {size} characters, cold", took["stock"], took["ringfence"])
    yield (
        "\nNo cache is in use here; both run in one process on one core. The texts are plain "
        "English prose with one name, so that no detector is spared."
    )


def _cold_ms(inspect: Inspect, size: int, runs: int = 9) -> float:
    """Median time for a text of ``size`` characters that was not seen before, in ms."""
    times = []
    for run in range(runs + 1):
        sentence = f"In chapter {run}, the harbour master Ilse Brandt counts the boats again. "
        text = (sentence * (size // len(sentence) + 1))[:size]
        started = time.perf_counter()
        inspect(text)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


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
    arguments = parser.parse_args()
    detectors = {"stock": stock(), "ringfence": ours()}
    lines = []
    for line in tables(arguments.folder, detectors):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        PAGE.write_text(HEAD + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
