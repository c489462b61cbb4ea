"""Wires `ringfence inspect`: the detectors, and the policy that says what each text would get."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from proxy.inspection.cli import inspect_jsonl
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.policy.decide import Context, decide
from proxy.policy.source import FilePolicySource
from proxy.settings import Settings
from proxy.types import Action, Caller, Inspection


def inspect_lines(settings: Settings, lines: Iterable[bytes], out: TextIO, workers: int) -> int:
    """Inspect JSON lines under the policy in force; returns the exit code."""
    policy = FilePolicySource(settings.policy_file).load()
    caller = Caller("inspect", "inspect", "inspect", "inspect")
    context = Context(caller, "chat.completions", "ringfence", datetime.now(UTC))

    def act(inspection: Inspection) -> Action:
        return decide(policy, context, inspection, decision_id="inspect").action

    async def run() -> int:
        inspector = ProcessInspector(
            num_workers=workers,
            timeout_s=settings.inspection_timeout_s,
            config=DetectorConfig.of(settings),
        )
        await inspector.start()
        try:
            return await inspect_jsonl(
                lines,
                out,
                inspector=inspector,
                act=act,
                recognizers=policy.recognizers,
                workers=workers,
            )
        finally:
            await inspector.aclose()

    return asyncio.run(run())
