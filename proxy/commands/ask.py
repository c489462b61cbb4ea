"""Wires `ringfence ask`: the question to a running proxy, and why it was answered where it was.

The proxy shows clients no route unless it is told to. Whoever may read the ledger may know it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from audit.replay import WAL
from audit.segments import Segment, all_segments, read_segment
from proxy.local.ask import Told

#: Files of the ledger to look into, newest first: one for each server process, and some to spare.
_MAX_FILES: Final = 16


def explain(told: Told, ledger_dir: Path) -> str:
    """The decision, and the route and why, as far as the answer or the record tells."""
    parts = [f"decision {told.decision_id or '-'}"]
    parts += [
        f"{name} {value}"
        for name, value in (told.route or recorded_route(ledger_dir, told.decision_id)).items()
    ]
    if len(parts) == 1:
        parts.append("route not shown, and no record of it here (RINGFENCE_EXPOSE_ROUTE_HEADERS)")
    return " · ".join(parts)


def recorded_route(ledger_dir: Path, decision_id: str) -> dict[str, str]:
    """Route, reason, confidence and signs of doubt of a decision; empty without its record."""
    try:
        segments = sorted(all_segments(ledger_dir / WAL), key=_changed_at, reverse=True)
        for segment in segments[:_MAX_FILES]:
            for line in reversed(read_segment(segment)[1].splitlines()):
                if b'"kind":"decision"' in line and decision_id.encode() in line:
                    record = json.loads(line)
                    if record["decision_id"] == decision_id:
                        return _route(record["routing"])
    except (OSError, ValueError, KeyError):
        pass
    return {}


def _route(routing: dict[str, object]) -> dict[str, str]:
    said = {"route": str(routing["route"]), "reason": str(routing["reason"])}
    for name, key in (("confidence", "score"), ("threshold", "threshold")):
        if isinstance(value := routing.get(key), float):
            said[name] = f"{value:.3f}"
    if "confidence" in said:
        said["by"] = str(routing.get("estimator"))
    doubts = routing.get("reasons")
    if isinstance(doubts, list) and doubts:
        said["doubts"] = ", ".join(map(str, doubts))
    return said


def _changed_at(segment: Segment) -> float:
    return segment.path.stat().st_mtime
