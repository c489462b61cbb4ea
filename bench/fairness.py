"""Measures what a small request waits beside a flood of slow or large texts, of its key or another.

Run: ``python -m bench.fairness``. A running proxy in front of a stand-in for the local model, with
one detector process and with two. Sixteen clients of one key send texts that take long to read;
another client sends a short question every half second. Requests of one key are read in the order
in which they came: a question under the key of the flood is what every question was before callers
took turns.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from demo.stand_in_cloud import Recorded, Reply, StandInCloud, completion
from tests.harness import RunningProxy, running_proxy

CLIENTS: Final = 16
SECONDS: Final = 12.0
PAUSE_S: Final = 0.5
KEYS: Final = ("flood", "small")
WORDS: Final = tuple(
    "long wide deep cold slow fast green clean busy quiet old young warm calm".split()
)


def in_chinese(number: int) -> str:
    """8,000 Chinese characters: slow to read for their number."""
    chance = random.Random(number)  # noqa: S311
    return "".join(chr(chance.randrange(0x4E00, 0x9FA5)) for _ in range(8_000))


def in_prose(number: int) -> str:
    """67,000 characters in English: a text that is one piece of work."""
    lines = (
        f"On day {number * 1_000 + line} the keeper counts the boats." for line in range(1_450)
    )
    return " ".join(lines)


#: No text is sent twice: what was read once is remembered.
NUMBERS: Final = itertools.count()
CHANCE: Final = random.Random(0)  # noqa: S311

FLOODS: Final[Mapping[str, Callable[[int], str]]] = {
    "8,000 Chinese characters": in_chinese,
    "67,000 characters of prose": in_prose,
}


@dataclass(frozen=True, slots=True)
class Waited:
    """What the short questions saw: milliseconds, and how many were not read in time."""

    median_ms: float
    most_ms: float
    num_late: int
    num: int

    def __str__(self) -> str:
        """A cell of the table."""
        return f"{self.median_ms:,.0f} ({self.most_ms:,.0f}; {self.num_late} of {self.num} pinned)"


def ask(proxy: RunningProxy, key: str, text: str, max_tokens: int = 5) -> httpx2.Response:
    """One chat under ``key``."""
    messages = [{"role": "user", "content": text}]
    body = {"model": "ringfence", "messages": messages, "max_tokens": max_tokens}
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.Client(trust_env=False, timeout=300) as wire:
        return wire.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers)


@contextmanager
def flood(proxy: RunningProxy, text: Callable[[int], str], num: int = CLIENTS) -> Iterator[None]:
    """So many clients of one key, each with its next text as soon as the last is answered."""
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            ask(proxy, "flood", text(next(NUMBERS)), 100)

    threads = [threading.Thread(target=client) for _ in range(num)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def questions(proxy: RunningProxy, key: str, seconds: float = SECONDS) -> Waited:
    """Short questions, one after the other; one that was not read in time is late at home."""
    times, late, until = [], 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        what = ", ".join(CHANCE.sample(WORDS, 6))
        started = time.perf_counter()
        answer = ask(proxy, key, f"Which river of Europe is {what} by day?")
        times.append((time.perf_counter() - started) * 1000)
        late += answer.headers.get("x-ringfence-reason") == "pinned"
        time.sleep(PAUSE_S)
    return Waited(statistics.median(times), max(times), late, len(times))


def settings(folder: Path, local_url: str, workers: int) -> dict[str, str]:
    """Two keys, and so many detector processes."""
    rows = [
        {
            "id": key,
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "app": key,
            "team": "bench",
            "environment": "bench",
            "scopes": {"expose_route": True},
        }
        for key in KEYS
    ]
    (folder / "keys.yaml").write_text(json.dumps(rows))
    return {
        "RINGFENCE_KEYS_FILE": str(folder / "keys.yaml"),
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_LOCAL_MODEL": "scripted",
        "RINGFENCE_INSPECTION_WORKERS": str(workers),
    }


def answer(_: Recorded) -> Reply:
    """The local model's part: at once."""
    return Reply(body=completion("Noted.", "scripted"))


def story(number: int) -> str:
    """A wish that the embedded model writes long about."""
    return f"Tell story {number} of a long river."


def at_the_model() -> None:
    """Print the line of the embedded model, whose batch is full of stories; nothing leaves."""
    folder = Path(tempfile.mkdtemp())
    env = settings(folder, "", 1)
    for name in ("RINGFENCE_LOCAL_BASE_URL", "RINGFENCE_LOCAL_MODEL"):
        del env[name]
    with running_proxy(folder, None, env) as proxy:
        alone = questions(proxy, "small", 2)
        with flood(proxy, story, 64):
            same = questions(proxy, "flood")
        with flood(proxy, story, 64):
            other = questions(proxy, "small")
        print(f"the embedded model beside 64 stories: alone {alone}, {same}, another key {other}")


def main() -> None:
    """Print the table: milliseconds in the median (at most; not read in time, so pinned)."""
    at_the_model()
    print("| processes | flood | alone | beside, same key | beside, another key | ratio |")
    print("|---|---|---|---|---|---|")
    for workers in (1, 2):
        folder = Path(tempfile.mkdtemp())
        with StandInCloud(answer) as local, StandInCloud() as cloud:
            env = settings(folder, local.base_url, workers)
            with running_proxy(folder, cloud.base_url, env) as proxy:
                questions(proxy, "small", 2)
                for name, text in FLOODS.items():
                    alone = questions(proxy, "small", SECONDS / 2)
                    with flood(proxy, text):
                        same = questions(proxy, "flood")
                    with flood(proxy, text):
                        other = questions(proxy, "small")
                    ratio = f"{same.median_ms / alone.median_ms:,.0f} → "
                    ratio += f"{other.median_ms / alone.median_ms:,.0f}"
                    print(f"| {workers} | {name} | {alone} | {same} | {other} | {ratio} |")


if __name__ == "__main__":
    main()
