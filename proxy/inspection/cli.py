"""Inspects JSON lines: how detection is scored from outside, and used in shell pipes.

One answer for each line, in order, written as soon as it and those before it are ready. A text is
never written back.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TextIO

from proxy.inspection.detector import Inspector
from proxy.inspection.recognizers import NO_RECOGNIZERS, Recognizers
from proxy.types import JSON, Action, Inspection, JSONObject, Origin

#: Lines under way for each worker: enough to keep it busy, few enough to bound memory.
LINES_PER_WORKER: Final = 8

_PATH: Final = "messages[0].content"


async def inspect_jsonl(
    lines: Iterable[bytes],
    out: TextIO,
    *,
    inspector: Inspector,
    act: Callable[[Inspection], Action],
    recognizers: Recognizers = NO_RECOGNIZERS,
    workers: int = 1,
) -> int:
    """Inspect lines ``{"id", "text", "lang"}`` and write ``{"id", "findings", "action"}`` lines.

    ``lang`` is taken as read: the inspection tells the language of a text itself. A line that is
    none gets ``{"id", "error"}`` in its place.

    Args:
        lines: JSON lines; reading them may block.
        out: where the answers go; flushed whenever no answer is at hand.
        inspector: inspects each text as a user's message.
        act: what the policy would do.
        recognizers: those of the policy.
        workers: how many inspections the inspector runs at a time.

    Returns:
        The exit code: 1 when a line could not be read, else 0.
    """

    async def inspect(text: str) -> Inspection:
        body: JSONObject = {"messages": [{"role": "user", "content": text}]}
        return await inspector.inspect(body, recognizers)

    source = iter(lines)
    under_way: deque[asyncio.Task[JSONObject]] = deque()
    failed = False
    open_ = True
    while open_ or under_way:
        while open_ and len(under_way) < LINES_PER_WORKER * workers:
            line = await asyncio.to_thread(_next, source)
            if line is None:
                open_ = False
            elif line.strip():
                under_way.append(asyncio.create_task(_inspect_line(line, inspect, act)))
            failed |= _write_ready(under_way, out)
        if under_way:
            await under_way[0]
            failed |= _write_ready(under_way, out)
    return int(failed)


def _next(source: Iterator[bytes]) -> bytes | None:
    return next(source, None)


def _write_ready(under_way: deque[asyncio.Task[JSONObject]], out: TextIO) -> bool:
    """Write the answers that are ready, in order; whether one of them is an error."""
    failed = wrote = False
    while under_way and under_way[0].done():
        answer = under_way.popleft().result()
        failed |= "error" in answer
        wrote = True
        out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if wrote:
        out.flush()
    return failed


async def _inspect_line(
    line: bytes,
    inspect: Callable[[str], Awaitable[Inspection]],
    act: Callable[[Inspection], Action],
) -> JSONObject:
    known, text = _read(line)
    if text is None:
        return {"id": known, "error": "not a line with a text"}
    inspection = await inspect(text)
    return {"id": known, "findings": _findings(inspection), "action": act(inspection).value}


def _read(line: bytes) -> tuple[JSON, str | None]:
    """The id and the text of a line; no text when it is not one of ours."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(value, dict):
        return None, None
    text = value.get("text")
    known = value.get("id")
    return known if isinstance(known, str | int) else None, text if isinstance(text, str) else None


def _findings(inspection: Inspection) -> list[JSON]:
    """The findings in the text itself; those in JSON within it have no place there."""
    own = {
        segment.index
        for segment in inspection.segments
        if segment.path == _PATH and segment.origin is Origin.VALUE
    }
    return [
        {"start": f.start, "end": f.end, "entity": f.entity, "score": round(f.score, 4)}
        for f in inspection.findings
        if f.segment in own
    ]
