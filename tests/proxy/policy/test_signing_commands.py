"""The commands of those who sign: keygen, sign, approve, verify."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.errors import PolicyError
from proxy.policy.cli import app
from tests.proxy.policy.policies import OPEN, write

OLD = "default: local_only\n"
NEW = "default: allow\n" + OPEN


def run(*arguments: object, given: str = "", **env: str) -> tuple[int, str]:
    """The exit code and what was said; a fault of ours counts as the line it becomes."""
    result = CliRunner(env=env).invoke(app, [str(a) for a in arguments], input=given)
    if isinstance(result.exception, PolicyError):
        return 1, result.exception.public_message
    return result.exit_code, result.output


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder of two persons' private keys; the public ones are in ``trust``."""
    trust = tmp_path / "trust"
    trust.mkdir()
    for person in ("jane@x.org", "ben@x.org"):
        assert run("keygen", person, "--out", tmp_path)[0] == 0
        (tmp_path / f"{person}.pub").rename(trust / f"{person}.pub")
    return tmp_path


def test_a_private_key_is_its_owners_alone(keys: Path) -> None:
    assert stat.S_IMODE((keys / "jane@x.org.key").stat().st_mode) == 0o600


def test_keygen_never_writes_over_a_key(keys: Path) -> None:
    before = (keys / "jane@x.org.key").read_bytes()
    assert run("keygen", "jane@x.org", "--out", keys)[0] == 1
    assert (keys / "jane@x.org.key").read_bytes() == before


def test_keygen_refuses_a_name_that_is_none(tmp_path: Path) -> None:
    assert run("keygen", "Jane Doe", "--out", tmp_path)[0] == 2


def test_a_signed_policy_verifies_and_a_changed_one_does_not(keys: Path) -> None:
    path = write(keys, OLD)
    assert run("verify", path, "--trust", keys / "trust")[1].startswith("REFUSED unsigned: ")
    assert run("sign", path, "--key", keys / "jane@x.org.key")[0] == 0
    code, said = run("verify", path, "--trust", keys / "trust")
    assert (code, said.splitlines()[0]) == (0, "SIGNED trial revision 3 by jane@x.org")
    path.write_text(path.read_text() + "# more\n")
    assert run("verify", path, "--trust", keys / "trust")[0] == 1


def test_signs_nothing_whose_tests_fail(keys: Path) -> None:
    wrong = "tests: [{name: wrong, findings: [], expect: {action: block}}]\n"
    code, said = run("sign", write(keys, OLD + wrong), "--key", keys / "jane@x.org.key")
    assert (code, "tests fail: wrong" in said) == (1, True)
    assert list(keys.glob("*.sig")) == []


def test_the_second_person_sees_what_loosens_and_says_yes(keys: Path) -> None:
    old, new = write(keys, OLD, "old"), write(keys, NEW)
    more = ("--trust", keys / "trust", "--old", old)
    ben = ("approve", new, "--key", keys / "ben@x.org.key", *more)
    assert run(*ben, "--yes")[0] == 1  # nobody has signed yet
    run("sign", new, "--key", keys / "jane@x.org.key")
    assert run("approve", new, "--key", keys / "jane@x.org.key", *more, "--yes")[0] == 1
    code, said = run(*ben, given="n\n")
    assert (code, "looser: nothing found (any caller): local_only" in said) == (1, True)
    assert run(*ben, given="y\n")[0] == 0
    said = run("verify", new, "--trust", keys / "trust")[1]
    assert "by ben@x.org, jane@x.org" in said


def test_approve_says_where_one_signature_is_enough(keys: Path) -> None:
    old, new = write(keys, NEW, "old"), write(keys, OLD)
    run("sign", new, "--key", keys / "jane@x.org.key")
    arguments = ("--key", keys / "ben@x.org.key", "--trust", keys / "trust", "--old", old, "--yes")
    assert "one signature is enough" in run("approve", new, *arguments)[1]


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path) -> None:
    path, env = write(tmp_path, OLD), {"POLICY_KEY_PASSPHRASE": "open sesame"}
    run("keygen", "jane", "--out", tmp_path, **env)
    assert b"ENCRYPTED" in (tmp_path / "jane.key").read_bytes()
    assert run("sign", path, "--key", tmp_path / "jane.key")[0] == 1
    assert run("sign", path, "--key", tmp_path / "jane.key", POLICY_KEY_PASSPHRASE="no")[0] == 1
    assert run("sign", path, "--key", tmp_path / "jane.key", **env)[0] == 0


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----", "\x00"])
def test_what_is_no_key_signs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "jane.key").write_text(text)
    assert run("sign", write(tmp_path, OLD), "--key", tmp_path / "jane.key")[0] == 1
    assert run("sign", write(tmp_path, OLD), "--key", tmp_path / "Jane Doe")[0] == 1
