"""The incident switch: nothing leaves while a file stands in the data folder.

Every worker looks for the file before every egress, so that `off` holds at once, for all of them,
and over restarts. Whatever keeps the switch from being read counts as off.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "egress.off"


@dataclass(frozen=True, slots=True)
class SwitchState:
    """Whether anything may leave, and who said not."""

    is_on: bool
    by: str = ""
    why: str = ""
    at: str = ""


class EgressSwitch:
    """The switch of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME

    def is_on(self) -> bool:
        """Whether anything may leave: only if the file is surely not there."""
        try:
            os.lstat(self._path)
        except FileNotFoundError:
            return self._path.parent.is_dir()
        except OSError:
            return False
        return False

    def state(self) -> SwitchState:
        """The state, with who turned it off and why, as far as the file tells."""
        if self.is_on():
            return SwitchState(is_on=True)
        try:
            told = json.loads(self._path.read_bytes())
            return SwitchState(False, str(told["by"]), str(told["why"]), str(told["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return SwitchState(is_on=False)

    def turn_off(self, by: str, why: str) -> SwitchState:
        """Let nothing leave from now on; on disk when this returns."""
        state = SwitchState(False, by, why, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(asdict(state)).encode())
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()
        return state

    def turn_on(self) -> SwitchState:
        """Let requests leave again, as far as policy lets them."""
        self._path.unlink(missing_ok=True)
        self._sync_folder()
        return SwitchState(is_on=self.is_on())

    def _sync_folder(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
