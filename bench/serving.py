"""What inspection costs a running proxy: a conversation's later turns, memory, lines a minute.

Detectors run in their own process with the cache on, as in the server. Stock Presidio reads the
whole history anew at each turn, as a proxy without a cache of segments must.

Run: ``python -m bench.serving``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.detectors import stock
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.types import JSONObject

#: A conversation of 20 turns and this many characters, and then one turn more.
_TURNS: Final = 20
_CHARS: Final = 20_000
_RUNS: Final = 5
_LINES: Final = 3_000


def conversation(run: int) -> list[dict[str, str]]:
    """``_TURNS`` pairs of a question and an answer, of ``_CHARS`` characters in all."""
    size = _CHARS // (2 * _TURNS)
    said = []
    for turn in range(_TURNS):
        for role in ("user", "assistant"):
            sentence = f"On day {run}.{turn} the {role} counts the boats in the harbour again. "
            said.append({"role": role, "content": (sentence * (size // len(sentence) + 1))[:size]})
    return said


async def later_turn_ms() -> tuple[float, float]:
    """Milliseconds for turn 21 and the memory of a detector process in MiB, with the cache."""
    inspector = ProcessInspector(num_workers=1, timeout_s=60.0, config=DetectorConfig(("en",)))
    await inspector.start()
    try:
        times = []
        for run in range(_RUNS):
            messages = conversation(run)
            await inspector.inspect(_body(messages))
            messages.append({"role": "user", "content": f"And what did she say on day {run}?"})
            started = time.perf_counter()
            await inspector.inspect(_body(messages))
            times.append((time.perf_counter() - started) * 1000)
        workers = [
            child.memory_info().rss / 2**20 for child in psutil.Process().children(recursive=True)
        ]
        return statistics.median(times), max(workers)
    finally:
        await inspector.aclose()


def stock_ms() -> float:
    """Milliseconds for stock Presidio over the whole history."""
    inspect = stock()
    times = []
    for run in range(_RUNS):
        messages = conversation(run)
        started = time.perf_counter()
        for message in messages:
            inspect(message["content"])
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


def lines_a_minute() -> float:
    """Lines that ``ringfence inspect --jsonl`` takes in a minute, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.jsonl"
        lines = (
            json.dumps(
                {"id": n, "text": f"Question {n}: how many boats does the harbour hold in May?"}
            )
            for n in range(_LINES)
        )
        file.write_text("\n".join(lines), encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-m", "proxy", "inspect", "--jsonl"]
        with file.open("rb") as given:
            subprocess.run(command, check=True, stdin=given, stdout=subprocess.DEVNULL)
        return _LINES / (time.perf_counter() - started) * 60


def _body(messages: list[dict[str, str]]) -> JSONObject:
    return {"model": "ringfence", "messages": [dict(message) for message in messages]}


@dataclass(frozen=True, slots=True)
class Serving:
    """What a running proxy took: ms for turn 21, memory of a detector process, lines a minute."""

    stock_ms: float
    ours_ms: float
    memory_mib: float
    lines_a_minute: float


def measure() -> Serving:
    """Measure, ours first: stock Presidio loads its models into this process."""
    ours_ms, memory_mib = asyncio.run(later_turn_ms())
    return Serving(stock_ms(), ours_ms, memory_mib, lines_a_minute())


def main() -> None:
    """Print the table."""
    got = measure()
    print("| | stock Presidio | Ringfence | ratio |\n|---|---|---|---|")
    print(f"| ms for turn 21 of {_CHARS:,} characters | {got.stock_ms:,.1f} | {got.ours_ms:,.1f} "
          f"| {got.stock_ms / got.ours_ms:.0f} |")  # fmt: skip
    print(f"| MiB of the largest detector process | - | {got.memory_mib:,.0f} | - |")
    print(f"| lines a minute, `inspect --jsonl` | - | {got.lines_a_minute:,.0f} | - |")


if __name__ == "__main__":
    main()
