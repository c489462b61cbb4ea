"""Policies for tests, from text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from proxy.policy.decide import Context
from proxy.policy.model import Policy
from proxy.policy.source import FilePolicySource
from proxy.types import Caller

HEAD = "version: 1\npack: trial\nrevision: 3\nowner: sec@example.com\n"
OPEN = (
    "destinations:\n"
    "  - id: eu\n"
    "    provider: openai\n"
    "    base_url: https://eu.example/v1\n"
    "    models: [m]\n"
    "    region: eu\n"
    "    transfer: {recipient: E, country: IE, basis: intra_eea, retention: zero}\n"
)


def write(folder: Path, text: str, name: str = "trial") -> Path:
    """Put a policy file with the usual head into ``folder``."""
    path = folder / f"{name}.yaml"
    path.write_text(HEAD + text)
    return path


def load(folder: Path, text: str) -> Policy:
    """A policy of ``text`` under the usual head."""
    return FilePolicySource(write(folder, text)).load()


def a_context(app: str = "desk", *, day: str = "2026-11-24", model: str = "ringfence") -> Context:
    """Somebody who asks, at noon."""
    now = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC)
    return Context(Caller(app, "team", "prod", "k_1"), "chat.completions", model, now)
