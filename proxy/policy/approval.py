"""Whether a version of the policy may be put in force: who signed it, and what was in force before.

The highest revision that was ever in force stands in the data folder, so that an old version with
a good signature is refused after a restart too. What cannot be told counts as no.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.disk import locked, replace_file
from proxy.policy.diff import compare
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.signature import SUFFIX, signers, trusted_keys
from proxy.settings import Settings

FOLDER: Final = "policy"
_FILE: Final = "in-force.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """The version in force with the highest revision so far; ``seen_at``: when, UTC."""

    pack: str
    revision: int
    digest: str
    seen_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Approved:
    """Who signed a version; ``looser``: whether it needed a second person, None: not asked."""

    signed_by: tuple[str, ...]
    looser: bool | None


class Approval:
    """The signatures that a version needs, and the mark of the last one in force."""

    def __init__(
        self,
        trust_dir: Path,
        data_dir: Path,
        *,
        second_person: bool = False,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Ask for signatures.

        Args:
            trust_dir: the folder of the keys that may sign.
            data_dir: the data folder, which all server processes share.
            second_person: whether what `policy diff` does not prove to be no looser needs two.
            clock: the time now, UTC.
        """
        self._trust_dir = trust_dir
        self._folder = data_dir / FOLDER
        self._second_person = second_person
        self._clock = clock

    def watched(self, path: Path) -> tuple[Path, ...]:
        """Files whose change may change the answer about the policy at ``path``."""
        signatures = sorted(path.parent.glob(f"*{SUFFIX}"))
        keys = sorted(self._trust_dir.glob("*"))
        return (self._folder / _FILE, self._trust_dir, *keys, *signatures)

    def keys(self) -> tuple[object, ...]:
        """The keys that may sign, for telling whether they changed; none where one is bad."""
        with contextlib.suppress(PolicyRefused):
            return trusted_keys(self._trust_dir)
        return ()

    def approve_beside(
        self, found: Policy, path: Path, force: Policy, *, decides: bool
    ) -> tuple[str, ...]:
        """Who signed ``found``, a candidate beside ``force``; with ``decides``, for some requests.

        Raises:
            PolicyRefused: unsigned, or it would decide, may be looser and one person signed.
        """
        signed_by = signers(found, path, trusted_keys(self._trust_dir))
        now = self._clock()
        _in_time(found, now.date())
        content = force.content
        _follows(found, Mark(content.pack, content.revision, force.digest, now))
        if decides and self._second_person and len(signed_by) < 2:
            if not compare(force, found, now).no_new_egress:
                raise _one_person_alone(found, signed_by)
        return signed_by

    def approve(self, found: Policy, path: Path, force: Policy | None) -> Approved:
        """Say that ``found`` may be put in force, and mark that it is.

        Args:
            found: the version, as it was read; the signature is checked against what was read.
            path: where it was read.
            force: the version in force, if there is one.

        Raises:
            PolicyRefused: it may not; says why.
        """
        signed_by = signers(found, path, trusted_keys(self._trust_dir))
        try:
            with locked(self._folder):
                return self._approve_signed(found, force, signed_by)
        except OSError as error:
            problem = f"{self._folder} cannot be read or written ({type(error).__name__})"
        raise PolicyRefused(Rejection.STATE_UNREADABLE, problem)

    def _approve_signed(
        self, found: Policy, force: Policy | None, signed_by: tuple[str, ...]
    ) -> Approved:
        mark, now = self._mark(), self._clock()
        if mark is not None:
            now = max(now, mark.seen_at)  # a clock that was set back brings nothing back
            _follows(found, mark)
        _in_time(found, now.date())
        looser = self._is_looser(found, force, mark, now)
        if looser and len(signed_by) < 2:
            raise _one_person_alone(found, signed_by)
        content = found.content
        told = {
            "pack": content.pack,
            "revision": content.revision,
            "digest": found.digest,
            "seen_at": now.isoformat(timespec="seconds"),
        }
        replace_file(self._folder / _FILE, json.dumps(told).encode())
        return Approved(signed_by, looser)

    def _is_looser(
        self, found: Policy, force: Policy | None, mark: Mark | None, now: dt.datetime
    ) -> bool | None:
        """Whether ``found`` needs a second person; without a policy to compare it with, it does."""
        if not self._second_person:
            return None
        if mark is None or force is None:
            return mark is None or mark.digest != found.digest
        if mark.digest == found.digest:  # another server process asked already
            return False
        return force.digest != mark.digest or not compare(force, found, now).no_new_egress

    def _mark(self) -> Mark | None:
        try:
            raw = (self._folder / _FILE).read_bytes()
        except FileNotFoundError:
            return None
        mark = None
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(raw)
            seen_at = dt.datetime.fromisoformat(told["seen_at"]).astimezone(dt.UTC)
            mark = Mark(str(told["pack"]), int(told["revision"]), str(told["digest"]), seen_at)
        if mark is None:
            problem = f"{self._folder / _FILE} is damaged; restore it"
            raise PolicyRefused(Rejection.STATE_UNREADABLE, problem)
        return mark


def approval_for(settings: Settings) -> Approval | None:
    """What ``settings`` ask for; None: a policy needs no signature."""
    if settings.policy_trust_dir is None:
        return None
    return Approval(
        settings.policy_trust_dir,
        settings.data_dir,
        second_person=settings.policy_second_person,
    )


def _one_person_alone(found: Policy, signed_by: tuple[str, ...]) -> PolicyRefused:
    return PolicyRefused(
        Rejection.NEEDS_SECOND_PERSON,
        f"{found.file}: may be looser than the policy in force and is signed by "
        f"{signed_by[0]} alone; a second person runs `ringfence policy approve`",
    )


def _follows(found: Policy, mark: Mark) -> None:
    """Refuse an old version, and another one of the same revision: both could be replayed."""
    content = found.content
    if content.pack != mark.pack:
        raise PolicyRefused(
            Rejection.OTHER_PACK, f"pack {content.pack}, where {mark.pack} was in force"
        )
    if content.revision < mark.revision:
        raise PolicyRefused(
            Rejection.OLDER_REVISION, f"revision {content.revision} is older than {mark.revision}"
        )
    if content.revision == mark.revision and found.digest != mark.digest:
        raise PolicyRefused(
            Rejection.REVISION_NOT_RAISED,
            f"changed, but still revision {mark.revision}; raise it and sign again",
        )


def _in_time(found: Policy, today: dt.date) -> None:
    for valid in found.fallback.valid:
        if valid.until is not None and valid.until < today:
            raise PolicyRefused(Rejection.EXPIRED, f"{found.file}: valid until {valid.until} only")
