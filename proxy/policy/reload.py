"""Keeps the policy in force while its files change.

A new version takes the place of the old one at once and whole, and only if it loads, lints without
a fault, passes its tests that need no detector, and is no older. Else the last good one stays, and
that is told loudly. A request keeps the policy it started with.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.policy.approval import Approval, Approved
from proxy.policy.cases import failing_cases
from proxy.policy.language import RecordPolicy
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.source import FilePolicySource

#: Kinds of files that a policy is made of.
_PARTS: Final = frozenset({".yaml", ".txt"})

#: What of a file tells that it changed: device, inode, size, times of change in ns.
Stamp = tuple[int, ...]


class Verdict(StrEnum):
    """What came of a new version; the words of the log, the metric and the record."""

    LOADED = "policy.loaded"
    REJECTED = "policy.rejected"


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of a new version. ``problem`` speaks of policy files, never of a request."""

    verdict: Verdict
    digest: str
    revision: int
    reason: Rejection | None = None
    problem: str = ""
    approved: Approved | None = None
    record: RecordPolicy = field(default_factory=RecordPolicy)


class PolicyKeeper:
    """The policy in force; `current` is safe to call from any thread."""

    def __init__(
        self,
        path: Path,
        on_reload: Callable[[Reload], None] = lambda _: None,
        approval: Approval | None = None,
    ) -> None:
        """Load the policy at ``path``.

        Args:
            path: the policy file.
            on_reload: told of each new version, taken or not; for log, metric and record.
            approval: asked for the signatures that a version needs; None: it needs none.

        Raises:
            PolicyError: it cannot be used; there is no last good one, so nothing starts.
        """
        self._path = path
        self._on_reload = on_reload
        self._lock = threading.Lock()
        # Taken before the files are read: a change while they are read shows at the next check.
        self._approval = approval
        self._stamps = self._stamps_now()
        self._policy = _load(path)
        self.approved = approval.approve(self._policy, path, None) if approval else None
        self._rejected: str | None = None

    def current(self) -> Policy:
        """The policy in force now."""
        return self._policy

    @property
    def healthy(self) -> bool:
        """Whether the policy in force is the one in the files."""
        return self._rejected is None

    def check(self) -> Reload | None:
        """Take the new version if the files changed; None if they did not."""
        with self._lock:
            stamps = self._stamps_now()
            if stamps == self._stamps:
                return None
            self._stamps = stamps
            reload = self._take()
        if reload is not None:
            self._on_reload(reload)
        return reload

    async def watch(self, interval_s: float = 1.0) -> None:
        """Check again and again, off the event loop, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.to_thread(self.check)
            except Exception:  # noqa: BLE001 - the boundary: a callback that fails must not end the watch
                self._rejected = self._rejected or "the callback for a new version failed"

    def _stamps_now(self) -> tuple[Stamp, ...]:
        watched = self._approval.watched(self._path) if self._approval else ()
        return (*_stamps(self._path), *(_stamp(file) for file in watched))

    def _take(self) -> Reload | None:
        problem, reason, found = "", Rejection.UNUSABLE, None
        force, approved = self._policy, None
        try:
            found = _load(self._path)
            approved = self._approve(found)
        except PolicyRefused as error:
            problem, reason, found = error.public_message, error.reason, None
        except PolicyError as error:
            problem = error.public_message
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a file does, the last good policy stays
            problem, found = f"{self._path}: cannot be read ({type(error).__name__})", None
        if found is None:
            self._rejected = problem
            return Reload(Verdict.REJECTED, force.digest, force.content.revision, reason, problem)
        changed = found.digest != force.digest or self._rejected is not None
        self._rejected = None
        self._policy, self.approved = found, approved
        loaded = Reload(
            *(Verdict.LOADED, found.digest, found.content.revision),
            approved=approved,
            record=found.content.record,
        )
        return loaded if changed else None

    def _approve(self, found: Policy) -> Approved | None:
        """Whether ``found`` may follow the version in force; PolicyRefused if not."""
        before = self._policy.content.revision
        if found.content.revision < before:
            raise PolicyRefused(
                Rejection.OLDER_REVISION,
                f"revision {found.content.revision} is older than {before}",
            )
        if self._approval is None:
            return None
        return self._approval.approve(found, self._path, self._policy)


def _load(path: Path) -> Policy:
    policy = FilePolicySource(path).load()
    failed = failing_cases(policy)
    if failed:
        raise PolicyRefused(Rejection.TESTS_FAILED, f"{path}: tests fail: {', '.join(failed)}")
    return policy


def _stamps(path: Path) -> tuple[Stamp, ...]:
    """The stamps of all files that a policy at ``path`` may be made of; one that is gone has none.

    All of the folder: a version that was refused for a file that is not there yet is tried again
    when it comes.
    """
    parts = [file for file in path.parent.glob("*") if file.suffix in _PARTS]
    return tuple(_stamp(file) for file in (path, *sorted(parts)))


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
