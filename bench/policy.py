"""Measures the policy engine: loading and deciding with a thousand rules.

Run: ``python -m bench.policy``. Prints milliseconds and microseconds; nothing asserts a time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from proxy.inspection.entities import ENTITIES, category_of
from proxy.policy.decide import Context, decide
from proxy.policy.model import Policy
from proxy.policy.source import FilePolicySource
from proxy.types import Caller, Coverage, Finding, Inspection, Origin, Role, Segment

NUM_RULES = 1000
HEAD = "version: 1\npack: bench\nrevision: 1\nowner: sec@example.com\ndefault: allow\nrules:\n"


def policy_text(entities: Sequence[str]) -> str:
    """A thousand rules over ``entities``, in turn, in a few forms."""
    forms = (
        "{{entities: [{e}], min_score: 0.5}}",
        "{{entities: [{e}], min_count: 3}}",
        "{{entities: [{e}], roles: [user], paths: ['messages[*].content']}}",
        "{{all_of: [{{entities: [{e}]}}, {{categories: [health], min_score: 0.3}}]}}",
    )
    return HEAD + "".join(
        f"  - {{id: r{n}, why: bench, action: {'block' if n % 7 == 0 else 'local_only'},\n"
        f"     scope: {{apps: [app-{n % 50}]}},\n"
        f"     when: {forms[n % 4].format(e=entities[n % len(entities)])}}}\n"
        for n in range(NUM_RULES)
    )


def request(num_findings: int, entities: Sequence[str]) -> Inspection:
    """A request with ``num_findings`` findings over ``entities``, in turn."""
    segment = Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text="")
    findings = tuple(
        Finding(entity, category_of(entity), 0, 0, 0, 0.9, "bench")
        for entity in (entities[n % len(entities)] for n in range(num_findings))
    )
    return Inspection((segment,), findings, (), Coverage(1, 1, 0, 0), ("en",), (), 0.0)


def decision_us(policy: Policy, inspection: Inspection, runs: int = 2000) -> tuple[float, float]:
    """Median and 99th percentile of one decision, in microseconds."""
    context = Context(
        Caller("app-7", "t", "e", "k"), "chat.completions", "m", datetime(2026, 1, 1, tzinfo=UTC)
    )
    times = []
    for _ in range(runs):
        started = time.perf_counter_ns()
        decide(policy, context, inspection, decision_id="d")
        times.append((time.perf_counter_ns() - started) / 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Print the table."""
    every = sorted(ENTITIES)
    worlds = {"rules over all entities": every, "all rules over one entity": ["PERSON"]}
    for name, entities in worlds.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.yaml"
            path.write_text(policy_text(entities))
            started = time.perf_counter()
            policy = FilePolicySource(path).load()
            print(f"{name}: load {(time.perf_counter() - started) * 1000:.0f} ms")
        for num in (0, 1, 5, 50):
            median, p99 = decision_us(policy, request(num, entities))
            print(f"{name}: {num} findings: median {median:.0f} us, p99 {p99:.0f} us")


if __name__ == "__main__":
    main()
