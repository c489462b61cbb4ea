"""A candidate policy beside the one in force: in the shadow, or for a share of the requests.

Its state is a file in the data folder with a copy of the candidate beside it, read by every server
process. It always has an end, and it ends loudly. Whatever keeps it from being read, or from being
approved, leaves only the policy in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from audit.disk import locked, make_folder, replace_file
from proxy.canonical import canonical_bytes
from proxy.errors import PolicyError
from proxy.policy.approval import FOLDER, Approval
from proxy.policy.cases import failing_cases
from proxy.policy.language import RecordPolicy
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.signature import signature_path
from proxy.policy.source import FilePolicySource
from proxy.types import JSON, JSONObject, Request

_STATE: Final = "staged.json"
_ENDED: Final = "staged.ended.json"
_COPIES: Final = "staged"
#: A candidate that is forgotten gives a false sense of protection.
MAX_DAYS: Final = 90
#: How far a clock may have been set back since the candidate was staged.
_CLOCK_SLACK: Final = dt.timedelta(minutes=5)


class Stage(StrEnum):
    """What became of a candidate; the words of log and record."""

    SHADOW = "shadow"
    SHARE = "share"
    OFF = "off"
    EXPIRED = "expired"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Order:
    """What was ordered; ``share`` in percent, 0: shadow only. ``salt`` picks the share."""

    file: str
    digest: str
    share: int
    staged_at: dt.datetime
    until: dt.datetime
    salt: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Staged:
    """A candidate that may be asked."""

    policy: Policy
    order: Order

    def takes(self, request: Request) -> bool:
        """Whether the candidate decides; the same for all of a conversation, on every process."""
        if self.order.share == 0:
            return False
        told = hashlib.sha256(request.caller.app.encode()).digest() + conversation(request.body)
        digest = hmac.digest(self.order.salt.encode(), told, hashlib.sha256)
        return int.from_bytes(digest[:8]) % 10_000 < self.order.share * 100


@dataclass(frozen=True, slots=True)
class StageChange:
    """What became of a candidate. ``problem`` speaks of files, never of a request.

    ``record`` is what a candidate that decides says of the record.
    """

    stage: Stage
    digest: str = ""
    share: int = 0
    until: str = ""
    reason: str = ""
    problem: str = ""
    record: RecordPolicy = field(default_factory=RecordPolicy)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class StageKeeper:
    """The candidate of one data folder; `current` is safe to call from any thread."""

    def __init__(
        self,
        data_dir: Path,
        force: Callable[[], Policy],
        approval: Approval | None = None,
        clock: Callable[[], dt.datetime] = _now,
    ) -> None:
        """Look for a candidate in ``data_dir``; nothing is read before the first `check`.

        Args:
            data_dir: the data folder, which all server processes share.
            force: the policy in force.
            approval: asked for the signatures that a candidate needs; None: it needs none.
            clock: the time now, UTC.
        """
        self._folder = data_dir / FOLDER
        self._force = force
        self._approval = approval
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[object, ...] = ()
        self._staged: Staged | None = None
        self._deadline = 0.0

    def current(self) -> Staged | None:
        """The candidate, if there is one whose end has not come."""
        staged = self._staged
        if staged is None or time.monotonic() >= self._deadline or not self._in_time(staged.order):
            return None
        return staged

    def check(self) -> StageChange | None:
        """Look again; None if nothing changed."""
        with self._lock:
            order = _read_order(self._folder / _STATE)
            if self._staged is not None and not self._in_time(self._staged.order):
                return self._end(self._staged.order)
            if isinstance(order, Order) and not self._in_time(order):
                return self._end(order)
            known = (order, self._force().digest, self._watched())
            if known == self._known:
                return None
            before, self._known = self._staged, known
            self._staged = None
            if order is None:
                return StageChange(Stage.OFF) if before else None
            if isinstance(order, str):
                return StageChange(Stage.REFUSED, reason="state_unreadable", problem=order)
            return self._take(order)

    async def watch(self, told: Callable[[StageChange], None], interval_s: float = 1.0) -> None:
        """Check again and again, off the event loop, until cancelled; ``told`` hears of changes."""
        while True:
            try:
                change = await asyncio.to_thread(self.check)
                if change is not None:
                    told(change)
            except Exception:  # noqa: BLE001 - the boundary: whatever goes wrong, only the policy in force is asked
                self._staged = None
            await asyncio.sleep(interval_s)

    def _take(self, order: Order) -> StageChange:
        if order.digest == self._force().digest:
            return StageChange(Stage.OFF, order.digest, reason="in_force")
        path = _copy_of(self._folder, order.digest) / order.file
        until = order.until.isoformat()
        try:
            policy = load_candidate(path, self._force(), order.share, self._approval)
            if policy.digest != order.digest:
                raise PolicyRefused(Rejection.UNUSABLE, f"{path}: the copy was changed")
        except PolicyError as error:
            reason = error.reason if isinstance(error, PolicyRefused) else Rejection.UNUSABLE
            told = (order.digest, order.share, until, reason.value, error.public_message)
            return StageChange(Stage.REFUSED, *told)
        self._deadline = time.monotonic() + (order.until - self._clock()).total_seconds()
        self._staged = Staged(policy, order)
        stage = Stage.SHARE if order.share else Stage.SHADOW
        says = policy.content.record
        return StageChange(stage, order.digest, order.share, until, record=says)

    def _end(self, order: Order) -> StageChange | None:
        """Its end has come; the order goes aside, so that no clock brings it back."""
        was_known = self._known == ("ended", order.digest)
        self._staged, self._known = None, ("ended", order.digest)
        state = self._folder / _STATE
        with contextlib.suppress(OSError), locked(self._folder):
            if _read_order(state) == order:
                state.replace(self._folder / _ENDED)
        if was_known:
            return None
        return StageChange(Stage.EXPIRED, order.digest, order.share, order.until.isoformat())

    def _in_time(self, order: Order) -> bool:
        return order.staged_at - _CLOCK_SLACK <= self._clock() < order.until

    def _watched(self) -> tuple[object, ...]:
        """What else the answer hangs on: the keys that may sign, by their bytes."""
        return self._approval.keys() if self._approval else ()


def stage(
    path: Path, data_dir: Path, force: Policy, approval: Approval | None, order: Order
) -> Order:
    """Copy the candidate at ``path`` and make it the one beside ``force``.

    Args:
        path: the candidate; its file name is that of the policy in force.
        data_dir: the data folder.
        force: the policy in force.
        approval: asked for the signatures; None: it needs none.
        order: share and end; the rest is filled in.

    Raises:
        PolicyRefused: it may not be staged; says why.
        PolicyError: it cannot be read or copied.
    """
    found = load_candidate(path, force, order.share, approval)
    folder = data_dir / FOLDER
    made = replace(order, file=path.name, digest=found.digest)
    try:
        make_folder(folder / _COPIES)
        with locked(folder), tempfile.TemporaryDirectory(dir=folder / _COPIES) as copy:
            _copy(found, path, Path(copy))
            again = load_candidate(Path(copy) / path.name, force, order.share, approval)
            if again.digest != found.digest:
                raise PolicyError(f"{path} changed while it was copied; try again.")
            target = _copy_of(folder, found.digest)
            for left in (folder / _COPIES).iterdir():
                if left != Path(copy):
                    shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(copy, target)
            replace_file(folder / _STATE, _written(made))
            return made
    except OSError as error:
        problem = f"{folder} cannot be read or written ({type(error).__name__})"
    raise PolicyError(problem)


def _copy(found: Policy, path: Path, target: Path) -> None:
    """Copy all files of ``found``, which was read from ``path``, with its signatures."""
    names = {loaded.name for loaded in found.files}
    names |= {file.name for loaded in found.files for file in loaded.term_files}
    for name in sorted(names):
        shutil.copyfile(path.parent / name, target / name)
    signature = signature_path(path, found.digest)
    if signature.is_file():
        shutil.copyfile(signature, target / signature.name)


def conversation(body: JSONObject) -> bytes:
    """What stays the same over a conversation: the first message of its user.

    Not the system's, which may tell the time of day. Of a request without a user's message, all.
    """
    messages = body.get("messages")
    listed = messages if isinstance(messages, (list, tuple)) else ()
    head = next((message for message in listed if _is_users(message)), body)
    return hashlib.sha256(canonical_bytes(head)).digest()


def _is_users(message: JSON) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "user"


def unstage(data_dir: Path) -> None:
    """Let only the policy in force decide."""
    (data_dir / FOLDER / _STATE).unlink(missing_ok=True)


def ordered(data_dir: Path) -> Order | str | None:
    """What is ordered: None for nothing, a text for what cannot be read."""
    return _read_order(data_dir / FOLDER / _STATE)


def an_order(share: int, until: dt.datetime, now: dt.datetime) -> Order:
    """An order for a candidate that is still to be named.

    Raises:
        PolicyError: its end is no end.
    """
    if not now < until <= now + dt.timedelta(days=MAX_DAYS):
        raise PolicyError(f"A candidate ends within {MAX_DAYS} days from now, and not before.")
    return Order("", "", share, now, until, secrets.token_hex(16))


def load_candidate(path: Path, force: Policy, share: int, approval: Approval | None) -> Policy:
    """The candidate at ``path``, if it may stand beside ``force``.

    Raises:
        PolicyError: it does not load.
        PolicyRefused: its tests fail, it is another pack or file, or signatures are missing.
    """
    found = FilePolicySource(path).load()
    failed = failing_cases(found)
    if failed:
        raise PolicyRefused(Rejection.TESTS_FAILED, f"{path}: tests fail: {', '.join(failed)}")
    if (found.file, found.content.pack) != (force.file, force.content.pack):
        raise PolicyRefused(
            Rejection.OTHER_PACK,
            f"{path}: a candidate has file name and pack of the policy in force "
            f"({force.file}, {force.content.pack})",
        )
    if found.content.revision < force.content.revision:
        raise PolicyRefused(
            Rejection.OLDER_REVISION,
            f"revision {found.content.revision} is older than {force.content.revision}",
        )
    if approval is not None:
        approval.approve_beside(found, path, force, decides=share > 0)
    return found


def _copy_of(folder: Path, digest: str) -> Path:
    return folder / _COPIES / digest.removeprefix("sha256:")[:32]


def _written(order: Order) -> bytes:
    told = {
        "file": order.file,
        "digest": order.digest,
        "share": order.share,
        "staged_at": order.staged_at.isoformat(),
        "until": order.until.isoformat(),
        "salt": order.salt,
    }
    return json.dumps(told).encode()


def _read_order(path: Path) -> Order | str | None:
    """The order at ``path``; a text if it cannot be read, which counts as none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path} cannot be read ({type(error).__name__})"
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        told = json.loads(raw)
        staged_at, until = (dt.datetime.fromisoformat(told[key]) for key in ("staged_at", "until"))
        order = Order(told["file"], told["digest"], told["share"], staged_at, until, told["salt"])
        texts = (order.file, order.digest, order.salt)
        if (
            all(isinstance(text, str) for text in texts)
            and len(order.salt) >= 32
            and Path(order.file).name == order.file
            and type(order.share) is int
            and 0 <= order.share <= 100
            and staged_at.tzinfo is not None
            and staged_at < until <= staged_at + dt.timedelta(days=MAX_DAYS)
        ):
            return order
    return f"{path} is damaged; stage the candidate again"
