"""The `ringfence policy` commands around signatures: keygen, sign, approve, verify."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.disk import replace_file
from audit.note import public_bytes, verifier_key
from proxy.errors import PolicyError
from proxy.policy.cases import failing_cases
from proxy.policy.diff import compare
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused
from proxy.policy.signature import (
    KEY_SUFFIX,
    is_person,
    signature_path,
    signers,
    trusted_keys,
    with_signature,
)
from proxy.policy.source import FilePolicySource

app = typer.Typer()

_PASSPHRASE = "POLICY_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable

File = Annotated[Path, typer.Argument(help="The policy file; what it includes is signed with it.")]
Key = Annotated[Path, typer.Option(help="Your private key, as `policy keygen` made it.")]
Trust = Annotated[
    Path,
    typer.Option(envvar="RINGFENCE_POLICY_TRUST_DIR", help="Folder of the keys that may sign."),
]


@app.command("keygen")
def keygen_command(
    person: Annotated[str, typer.Argument(help="Whose key it is: a mail address, say.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.key (keep it) and NAME.pub.")],
) -> None:
    """Make a key to sign policies with. The .pub goes into RINGFENCE_POLICY_TRUST_DIR."""
    if not is_person(person):
        raise typer.BadParameter("a name is lower case: letters, digits, '.', '_', '-', '@'")
    private, public = out / f"{person}.key", out / f"{person}{KEY_SUFFIX}"
    if private.exists() or public.exists():
        raise PolicyError(f"{private} or {public} is there already; nothing was changed.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _encryption()
    )
    replace_file(private, pem)
    replace_file(public, f"{verifier_key(person, public_bytes(key))}\n".encode())
    public.chmod(0o644)
    typer.echo(f"{private}: keep it to yourself\n{public}: for the trust folder of the proxy")


@app.command("sign")
def sign_command(file: File, key: Key) -> None:
    """Sign a policy with all its files, beside what others signed. Its tests must pass."""
    _sign(_checked(file), file, key)


@app.command("approve")
def approve_command(
    file: File,
    key: Key,
    trust: Trust,
    old: Annotated[Path, typer.Option(help="The policy in force, to show what changes.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Sign as the second person, after a look at what the policy loosens. Exit 1: not signed."""
    policy = _checked(file)
    others = set(signers(policy, file, trusted_keys(trust))) - {_person(key)}
    if not others:
        raise PolicyError("Nobody else has signed this version: `policy sign` is the first step.")
    found = compare(FilePolicySource(old).load(), policy, datetime.now(UTC))
    typer.echo(f"signed by {', '.join(sorted(others))}")
    for line in [*map(str, found.looser), *found.constructs, *found.unproved]:
        typer.echo(f"looser: {line}")
    if found.no_new_egress:
        typer.echo("no new egress: one signature is enough")
    if not yes and not typer.confirm("Sign it?"):
        raise typer.Exit(1)
    _sign(policy, file, key)


@app.command("verify")
def verify_command(file: File, trust: Trust) -> None:
    """Say who signed a policy. Exit 0: somebody who is trusted; 1: nobody, or it was changed."""
    policy = FilePolicySource(file).load()
    try:
        found = signers(policy, file, trusted_keys(trust))
    except PolicyRefused as error:
        typer.echo(f"REFUSED {error.reason.value}: {error.public_message}")
        raise typer.Exit(1) from None
    content = policy.content
    typer.echo(f"SIGNED {content.pack} revision {content.revision} by {', '.join(found)}")
    typer.echo(policy.digest)


def _checked(file: Path) -> Policy:
    policy = FilePolicySource(file).load()
    failed = failing_cases(policy)
    if failed:
        raise PolicyError(f"{file}: tests fail: {', '.join(failed)}")
    return policy


def _sign(policy: Policy, file: Path, key: Path) -> None:
    path = signature_path(file, policy.digest)
    replace_file(path, with_signature(policy, file, _person(key), _load(key)))
    path.chmod(0o644)
    typer.echo(f"{path}")


def _person(key: Path) -> str:
    """The person a key belongs to: its file says so."""
    person = key.name.removesuffix(".key")
    if not is_person(person):
        raise PolicyError(f"{key}: name the file PERSON.key, as `policy keygen` does.")
    return person


def _load(path: Path) -> Ed25519PrivateKey:
    given = os.environ.get(_PASSPHRASE)
    with contextlib.suppress(OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(
            path.read_bytes(), given.encode() if given else None
        )
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise PolicyError(
        f"{path}: no key that can be read; an encrypted one wants {_PASSPHRASE} in the environment."
    )


def _encryption() -> serialization.KeySerializationEncryption:
    given = os.environ.get(_PASSPHRASE)
    if given:
        return serialization.BestAvailableEncryption(given.encode())
    return serialization.NoEncryption()
