"""The `ringfence policy` commands around candidates: stage, rollout."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from proxy.errors import PolicyError
from proxy.policy.approval import approval_for
from proxy.policy.replay import read_decisions
from proxy.policy.source import FilePolicySource
from proxy.policy.staging import Order, an_order, ordered, stage, unstage
from proxy.settings import load_settings

app = typer.Typer()

_KEEPS_NOTHING = (
    "`record: {train_on_answers: true}` keeps nothing without RINGFENCE_CAPTURE_KEY_FILE, and a "
    "proxy does not start on it"
)

Candidate = Annotated[
    Path | None, typer.Argument(help="The candidate, named like the policy in force.")
]
Until = Annotated[datetime | None, typer.Option(help="When it ends (UTC); at most 90 days ahead.")]


@app.command("stage")
def stage_command(
    file: Candidate = None,
    until: Until = None,
    off: Annotated[bool, typer.Option("--off", help="End it now.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Count what it would change.")] = False,
) -> None:
    """Let a candidate decide in the shadow of the policy in force, without any effect.

    Only differences are recorded. Without a file: say what is staged.
    """
    if off:
        unstage(load_settings().data_dir)
    elif report:
        _report()
    elif file is not None:
        _order(file, until, 0)
        return
    _tell()


@app.command("rollout")
def rollout_command(
    file: Annotated[Path, typer.Argument(help="The candidate, named like the policy in force.")],
    share: Annotated[int, typer.Option(min=1, max=100, help="Percent of conversations.")],
    until: Until = None,
) -> None:
    """Let a candidate decide a share of the requests, picked by app and conversation."""
    _order(file, until, share)


def _order(file: Path, until: datetime | None, share: int) -> None:
    if until is None:
        raise typer.BadParameter("say when it ends: --until 2026-12-31")
    settings = load_settings()
    end = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    force = FilePolicySource(settings.policy_file).load()
    order = an_order(share, end, datetime.now(UTC))
    stage(file, settings.data_dir, force, approval_for(settings), order)
    record = FilePolicySource(file).load().content.record
    if record.train_on_answers and settings.capture_key_file is None:
        typer.echo(_KEEPS_NOTHING, err=True)
    _tell()


def _tell() -> None:
    found = ordered(load_settings().data_dir)
    if isinstance(found, str):
        raise PolicyError(found)
    typer.echo("nothing is staged" if found is None else _said(found))


def _said(order: Order) -> str:
    what = f"for {order.share} % of conversations" if order.share else "in the shadow"
    return f"{order.file} {order.digest[:19]} {what} until {order.until:%Y-%m-%d %H:%M} UTC"


def _report() -> None:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    num = 0
    for record in read_decisions(load_settings().ledger_dir):
        num += 1
        policy = record.get("policy") or {}
        shadow = policy.get("shadow")
        if isinstance(shadow, dict):
            app_name = str((record.get("caller") or {}).get("app"))
            digest, action = str(shadow.get("digest"))[:19], str(shadow.get("action"))
            counts[digest, app_name, str(policy.get("action")), action] += 1
    for (digest, app_name, old, new), times in sorted(counts.items()):
        typer.echo(f"{times:>8} {app_name}: {old}, candidate {digest} {new}")
    typer.echo(f"{sum(counts.values())} of {num} recorded decisions differ")
