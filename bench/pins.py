"""How often harmless talk is pinned for words it shares with a pinned answer; what looking costs.

Texts of the evaluation sets stand in for pinned answers, and prompts of others for later requests:
nobody made the one from the other. Nothing of them is printed.

Run: ``python -m bench.pins FOLDER``, the folder of the sets (see `bench.corpora`).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from proxy.pins.quotes import Growing, kept_run_traces, run_traces, whole_trace
from proxy.pins.store import PinStore

#: Prose in English and German that a person may have got as an answer.
ANSWERS: Final = ("pupa", "presidio_synth", "btc", "uner_en_ewt", "uner_de_pud", "wikigold")

#: Later requests: prompts for assistants, messages, questions.
REQUESTS: Final = (
    "negatives",
    "banking77",
    "clinc150",
    "xquad",
    "boolq",
    "sms_spam",
    "truthfulqa",
    "strategyqa",
    "gsm8k",
)

#: Words of the longest request that is timed.
NUM_WORDS: Final = 20_000


def main() -> None:
    """Print one line of counts and one of times."""
    root = Path(sys.argv[1])
    said = [text for name in ANSWERS for text in texts(root, name)]
    asked = [text for name in REQUESTS for text in texts(root, name)]
    kept = {run for text in said for run in kept_run_traces([text])}
    pinned = sum(not kept.isdisjoint(run_traces([text])) for text in asked)
    print(f"{len(said)} answers, {len(kept)} runs kept; {pinned} of {len(asked)} requests pinned")
    told = {trace for text in said for trace in told_in_pieces(text)}
    pinned = sum(
        whole_trace(text) in told or not told.isdisjoint(run_traces([text])) for text in asked
    )
    print(f"told in pieces: {len(told)} traces kept; {pinned} of {len(asked)} requests pinned")
    asyncio.run(show_times(said))


def told_in_pieces(text: str) -> Iterator[str]:
    """The traces of an answer whose client may stop after every four characters."""
    growing = Growing((), frozenset())
    for start in range(0, len(text), 4):
        growing.say((0, 0), "", text[start : start + 4])
        yield from growing.fresh()


def texts(root: Path, corpus: str) -> Iterator[str]:
    """The texts of a set, or its questions."""
    with gzip.open(root / corpus / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield row.get("text") or row["question"]


async def show_times(said: Sequence[str]) -> None:
    """Milliseconds to look for the quotations in a long request, over all that was said."""
    words = " ".join(said).split()[:NUM_WORDS]
    long = " ".join(word[::-1] for word in words)  # words of the same length that nobody said
    with tempfile.TemporaryDirectory() as folder:
        store = PinStore(Path(folder) / "pins.sqlite3", secrets.token_bytes(32), 1000.0)
        for number, text in enumerate(said):
            await store.remember(lambda text=text: kept_run_traces([text]), f"dec_{number}")
        started = time.perf_counter()
        found = await store.find(lambda: run_traces([long]))
        elapsed_ms = (time.perf_counter() - started) * 1000
        store.close()
    print(f"{len(words)} words looked for in {elapsed_ms:.0f} ms, found: {found is not None}")


if __name__ == "__main__":
    main()
