"""`ringfence train-data export`: what clouds answered, as pairs to learn from."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from audit.arguments import LEDGER, FilesOption, failed
from audit.disk import publish
from audit.errors import AuditError
from proxy.errors import SettingsError
from proxy.inspection.detector import Inspector
from proxy.inspection.entities import ENTITIES
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.learning.harvest import Harvest, Wish, harvest
from proxy.logs import configure_logs
from proxy.policy.model import Policy
from proxy.policy.source import FilePolicySource
from proxy.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="What the local model may learn from.")

_POLICY: Final = "Would have to let each pair leave as it is, and be learnt from, today."
_MAY_HOLD: Final = "An entity that may stand in a pair, as LOCATION; more than once."


@app.callback()
def _group() -> None:
    """Keeps `export` a command of its own while it is the only one."""


@app.command("export")
def export_command(
    key: Annotated[Path, typer.Option(help="The auditor's private key.")],
    out: Annotated[Path, typer.Option(help="A new file for the pairs, JSONL, mode 0600.")],
    directory: FilesOption = LEDGER,
    policy: Annotated[Path | None, typer.Option(help=_POLICY)] = None,
    since: Annotated[datetime | None, typer.Option(help="From this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this time (UTC).")] = None,
    app_name: Annotated[str, typer.Option("--app", help="What this app asked.")] = "",
    may_hold: Annotated[list[str] | None, typer.Option(help=_MAY_HOLD)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say the counts as JSON.")] = False,
) -> None:
    """Write what was escalated and harmless as pairs for `finetune`. Exit 1: there is no pair.

    For the auditor's machine: it opens captures. See docs/routing.md, Learn.
    """
    configure_logs("auto", "warning")
    if out.exists():
        raise typer.BadParameter(f"{out} is there already")
    rules = FilePolicySource(policy).load() if policy is not None else None
    wish = Wish(_time(since), _time(until), app_name, _known(may_hold or [], rules), rules)
    try:
        found = asyncio.run(harvest(directory, key, wish, _detectors))
        if found.pairs:
            publish(out, "".join(pair.line() for pair in found.pairs).encode())
    except (AuditError, OSError, SettingsError) as error:
        raise failed("Not exported", error) from None
    _tell(found, as_json=as_json)
    raise typer.Exit(0 if found.pairs else 1)


@asynccontextmanager
async def _detectors() -> AsyncIterator[Inspector]:
    """Those of the settings, one process a core."""
    settings = load_settings()
    inspector = ProcessInspector(
        num_workers=len(os.sched_getaffinity(0)),
        timeout_s=settings.inspection_timeout_s,
        config=DetectorConfig.of(settings),
    )
    await inspector.start()
    try:
        yield inspector
    finally:
        await inspector.aclose()


def _known(entities: list[str], policy: Policy | None) -> frozenset[str]:
    """``entities``, all of which somebody can find: a misspelled one would be of no effect."""
    known = policy.vocabulary.entities if policy is not None else ENTITIES
    for entity in entities:
        if entity not in known:
            raise typer.BadParameter(f"--may-hold: no detector finds {entity!r}")
    return frozenset(entities)


def _time(given: datetime | None) -> str:
    """A time in the form of the records'."""
    if given is None:
        return ""
    if given.tzinfo is not None:
        given = given.astimezone(UTC).replace(tzinfo=None)
    return f"{given.isoformat(timespec='microseconds')}Z"


def _tell(found: Harvest, *, as_json: bool) -> None:
    if as_json:
        left_out = dict(sorted(found.left_out.items()))
        typer.echo(json.dumps({"pairs": len(found.pairs), "left_out": left_out}))
        return
    console = Console(highlight=False)
    console.print(f"{len(found.pairs)} pairs")
    for reason, count in found.left_out.most_common():
        console.print(f"left out: {count} {reason}")
