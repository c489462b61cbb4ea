"""`ringfence check`: what is configured, what is reachable, what would be refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from proxy.errors import ProxyError
from proxy.local.model import is_ready
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.policy.lint import lint
from proxy.policy.source import FilePolicySource
from proxy.policy.switch import EgressSwitch
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of the check."""

    level: Literal["good", "note", "bad"]
    what: str
    says: str


async def run_checks(settings: Settings) -> tuple[Remark, ...]:
    """Look at every setting that can be wrong; asks nobody but the local tier."""
    return (
        Remark("good", "listens on", f"{settings.host}:{settings.port}"),
        _keys(settings),
        *_policy(settings),
        _data(settings),
        await _local(settings),
        _cloud(settings),
        Remark(
            "note",
            "confidence",
            f"mean_logprob below {settings.confidence_threshold} escalates; not calibrated",
        ),
    )


def _keys(settings: Settings) -> Remark:
    if settings.keys_file is None:
        return Remark("note", "clients", "anyone on this machine: no RINGFENCE_KEYS_FILE")
    return Remark("good", "clients", f"keys of {settings.keys_file}")


def _policy(settings: Settings) -> tuple[Remark, ...]:
    problem = ""
    try:
        policy = FilePolicySource(settings.policy_file).load()
    except ProxyError as error:
        problem = error.public_message
    if problem:
        return (Remark("bad", "policy", problem),)
    content = policy.content
    rules = "; ".join(f"{rule.id}: {rule.action.value}" for rule in content.rules)
    named = f"{content.pack} revision {content.revision}, {policy.digest[:19]}"
    return (
        Remark("good", "policy", named),
        Remark("good", "would refuse or keep", rules or "nothing: no rules"),
        Remark("good", "otherwise", policy.fallback.default.value),
        *(Remark("note", "policy lint", advice) for advice in lint(settings.policy_file)),
    )


def _data(settings: Settings) -> Remark:
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Remark("bad", "records", f"{settings.ledger_dir} cannot be written: nothing leaves")
    return Remark("good", "records", f"{settings.ledger_dir}")


async def _local(settings: Settings) -> Remark:
    if settings.local_base_url is None:
        if is_ready(settings.model_dir):
            return Remark("good", "local tier", f"embedded model in {settings.model_dir}")
        return Remark("bad", "local tier", "no embedded model: run `ringfence model pull`")
    backend = OpenAIHTTPBackend(settings.local_base_url, settings.local_model, timeout_s=5.0)
    reachable = await backend.probe()
    await backend.aclose()
    if reachable:
        return Remark("good", "local tier", f"{settings.local_base_url} answers")
    return Remark("bad", "local tier", f"{settings.local_base_url} does not answer")


def _cloud(settings: Settings) -> Remark:
    if settings.cloud_api_key is None:
        return Remark("note", "cloud", "local-only: no OPENAI_API_KEY")
    try:
        destinations = FilePolicySource(settings.policy_file).load().content.destinations
    except ProxyError:
        destinations = ()
    if not destinations:
        return Remark("note", "cloud", "local-only: the policy names no destination")
    switch = EgressSwitch(settings.data_dir).state()
    if not switch.is_on and settings.data_dir.is_dir():
        return Remark("note", "cloud", f"switched off ({switch.by or 'unknown'}): nothing leaves")
    named = ", ".join(f"{d.id} ({d.base_url}, {d.region})" for d in destinations)
    return Remark("good", "cloud", f"{named}; not asked, since asking would be egress")
