"""Measures what a pinned stream gains by flowing, and what its pins cost those beside it.

Run: ``python -m bench.flowing``. A running proxy and the embedded model first: until the first word
and until the last, of a pinned answer of 128 tokens. Then a stand-in for the local model that
writes 50 pieces a second into each of several pinned streams at once, and what a harmless request
waits meanwhile.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx2

from demo.stand_in_cloud import END, Recorded, Reply, StandInCloud, chunk, completion
from tests.harness import RunningProxy, running_proxy

PINNED: Final = "My name is Jane Doe, jane.doe@example-mail.com. Tell me about rivers, part {}."
PIECES: Final = 300
SPACING_S: Final = 0.02
STREAMS: Final = (1, 8, 24)
ANSWERS: Final = 8


class Steady(tuple[bytes, ...]):
    """Pieces of an answer, so many a second."""

    def __iter__(self) -> Iterator[bytes]:
        for number in range(PIECES):
            yield chunk({"content": f"word{number % 97} letter{number} "})
            time.sleep(SPACING_S)
        yield chunk({}, "stop")
        yield END


def answer(asked: Recorded) -> Reply:
    """The local model's part."""
    if b'"stream":true' not in asked.body:
        return Reply(body=completion("Noted.", "scripted"))
    return Reply(headers=(("content-type", "text/event-stream"),), pieces=Steady((b"",)))


def streamed(proxy: RunningProxy, number: int) -> tuple[float, float]:
    """Seconds until the first word of a pinned answer, and until its end."""
    messages = [{"role": "user", "content": PINNED.format(number)}]
    body = {"model": "ringfence", "messages": messages, "max_tokens": 128, "stream": True}
    started, first = time.perf_counter(), 0.0
    with (
        httpx2.Client(trust_env=False, timeout=300) as wire,
        wire.stream("POST", f"{proxy.url}/v1/chat/completions", json=body) as response,
    ):
        for line in response.iter_lines():
            if line.startswith("data: {") and not first:
                first = time.perf_counter() - started
    return first, time.perf_counter() - started


def harmless(proxy: RunningProxy) -> float:
    """Median milliseconds of a harmless request."""
    times = []
    for number in range(12):
        messages = [{"role": "user", "content": f"Name river {number}."}]
        started = time.perf_counter()
        proxy.post(json.dumps({"model": "ringfence", "messages": messages}).encode())
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.3)
    return statistics.median(times)


def main() -> None:
    """Run the measurement."""
    with running_proxy(Path(tempfile.mkdtemp()), None) as proxy:
        streamed(proxy, 0)
        told = [streamed(proxy, number) for number in range(1, ANSWERS + 1)]
    first, last = (statistics.median(times) for times in zip(*told, strict=True))
    print(f"embedded model: first word after {first:.2f} s, last after {last:.2f} s")
    with StandInCloud(answer) as local, StandInCloud() as cloud:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url, "RINGFENCE_LOCAL_MODEL": "scripted"}
        with running_proxy(Path(tempfile.mkdtemp()), cloud.base_url, env) as proxy:
            harmless(proxy)
            print(f"no stream: a harmless request takes {harmless(proxy):.0f} ms")
            for num in STREAMS:
                with ThreadPoolExecutor(num) as clients:
                    running = [clients.submit(streamed, proxy, number) for number in range(num)]
                    time.sleep(1)
                    beside = harmless(proxy)
                    took = statistics.median(one.result()[1] for one in running)
                print(
                    f"{num} streams of {PIECES * SPACING_S:.0f} s: {took:.1f} s; "
                    f"a harmless request beside them {beside:.0f} ms"
                )


if __name__ == "__main__":
    main()
