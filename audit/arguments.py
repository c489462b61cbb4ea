"""Arguments and answers that the `ringfence audit` commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from audit.errors import AuditError
from audit.stores.address import is_url, ledger_folder

#: Where the keys of a ledger lie unless somebody says otherwise.
KEYS: Final = Path("data/keys")


@dataclass(frozen=True, slots=True)
class Located:
    """A ledger that is read in ``folder``, a copy where it stands in the database at ``url``."""

    folder: Path
    url: str | None = None

    def __str__(self) -> str:
        return str(self.folder)


#: Where a ledger lies unless somebody says otherwise.
LEDGER: Final = Path("data/ledger")
LOCATED: Final = Located(LEDGER)


def folder_of(address: str | Path) -> Path:
    """The ledger's folder, for a database a copy of it."""
    try:
        return ledger_folder(str(address))
    except (AuditError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise typer.BadParameter(f"there is no ledger to read: {reason}") from None


def _located(address: str | Located) -> Located:
    """The ledger's folder or the copy of its database, and that database's URL."""
    if isinstance(address, Located):
        return address
    text = str(address)
    return Located(folder_of(text), text if is_url(text) else None)


def _files_only(address: str | Path) -> Path:
    """The folder of a ledger in files."""
    if is_url(str(address)):
        raise typer.BadParameter("this is for a ledger in files, not in a database")
    return Path(address)


_ENVIRONMENT: Final = ["RINGFENCE_LEDGER_URL", "RINGFENCE_LEDGER_DIR"]
_HELP: Final = "The ledger's folder, or postgresql://… (or RINGFENCE_LEDGER_URL, _DIR)."


def _argument(parser: Callable[[str], Path | Located]) -> Any:
    """A ledger in files or in a database, as an argument."""
    return typer.Argument(
        envvar=_ENVIRONMENT, show_envvar=False, parser=parser, metavar="LEDGER", help=_HELP
    )


Directory = Annotated[Path, _argument(folder_of)]

#: For what signs or writes: the ledger as an argument, and as an option.
LedgerArgument = Annotated[Located, _argument(_located)]
LedgerOption = Annotated[
    Located,
    typer.Option(
        "--ledger",
        envvar=_ENVIRONMENT,
        show_envvar=False,
        parser=_located,
        metavar="LEDGER",
        help=_HELP,
    ),
]

#: For what only a ledger in files has.
FilesOption = Annotated[
    Path,
    typer.Option(
        "--ledger",
        envvar="RINGFENCE_LEDGER_DIR",
        parser=_files_only,
        metavar="PATH",
        help="The ledger's folder.",
    ),
]

Keys = Annotated[
    Path, typer.Option("--keys", envvar="RINGFENCE_KEYS_DIR", help="The folder of its keys.")
]


def failed(what: str, error: Exception) -> typer.Exit:
    """Say why something was not done; gives the exit code 1."""
    reason = error.strerror if isinstance(error, OSError) else error
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(f"{what}: {reason}.", soft_wrap=True)
    return typer.Exit(1)
