"""A signature holds for the files it was made for, by a trusted person, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import public_bytes, verifier_key
from proxy.policy.refusal import PolicyRefused, Rejection
from proxy.policy.signature import (
    TrustedKey,
    is_person,
    signature_path,
    signers,
    statement,
    trusted_keys,
    with_signature,
)
from proxy.policy.source import FilePolicySource
from tests.proxy.policy.policies import write
from tests.proxy.policy.signing import Persons

ALLOW = "default: allow\n"


@pytest.fixture
def persons(tmp_path: Path) -> Persons:
    return Persons(tmp_path / "trust", "jane@x.org", "ben@x.org")


def who(persons: Persons, path: Path) -> tuple[str, ...]:
    return signers(FilePolicySource(path).load(), path, trusted_keys(persons.trust))


def why(persons: Persons, path: Path) -> Rejection:
    with pytest.raises(PolicyRefused) as caught:
        who(persons, path)
    return caught.value.reason


def test_names_all_who_signed(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    persons.sign(path, "jane@x.org")
    assert who(persons, path) == ("jane@x.org",)
    persons.sign(path, "ben@x.org", "jane@x.org")
    assert who(persons, path) == ("ben@x.org", "jane@x.org")


def test_a_stripped_signature_is_refused(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    persons.sign(path, "jane@x.org").unlink()
    assert why(persons, path) is Rejection.UNSIGNED


@pytest.mark.parametrize(
    "left", [b"", b"\n\n", b"\n\n\xe2\x80\x94 jane@x.org AAAA\n", b"\xff\n\n\xff", b"x" * 70_000]
)
def test_an_emptied_signature_is_refused(tmp_path: Path, persons: Persons, left: bytes) -> None:
    path = write(tmp_path, ALLOW)
    persons.sign(path, "jane@x.org").write_bytes(left)
    assert why(persons, path) in (Rejection.BAD_SIGNATURE, Rejection.UNSIGNED)


def test_a_signature_with_its_lines_cut_off_is_refused(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    file = persons.sign(path, "jane@x.org")
    file.write_bytes(file.read_bytes().partition("\N{EM DASH}".encode())[0])
    assert why(persons, path) is Rejection.BAD_SIGNATURE


def test_every_changed_byte_is_refused(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    file = persons.sign(path, "jane@x.org")
    good = file.read_bytes()
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert why(persons, path) in (Rejection.BAD_SIGNATURE, Rejection.UNKNOWN_SIGNER), at


def test_another_signer_is_refused(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    Persons(tmp_path / "elsewhere", "eve@x.org").sign(path, "eve@x.org")
    assert why(persons, path) is Rejection.UNKNOWN_SIGNER


def test_another_key_under_a_trusted_name_is_refused(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    Persons(tmp_path / "elsewhere", "jane@x.org").sign(path, "jane@x.org")
    assert why(persons, path) is Rejection.BAD_SIGNATURE


def test_the_signature_of_another_policy_is_refused(tmp_path: Path, persons: Persons) -> None:
    """The same rules as another file, and other rules as this file."""
    path = write(tmp_path, ALLOW)
    other = write(tmp_path, ALLOW, "other")
    digest = FilePolicySource(path).load().digest
    signed = persons.sign(other, "jane@x.org").read_bytes()
    signature_path(path, digest).write_bytes(signed)
    assert why(persons, path) is Rejection.BAD_SIGNATURE
    old = persons.sign(path, "jane@x.org").read_bytes()
    write(tmp_path, "default: local_only\n")
    assert why(persons, path) is Rejection.UNSIGNED
    signature_path(path, FilePolicySource(path).load().digest).write_bytes(old)
    assert why(persons, path) is Rejection.BAD_SIGNATURE


def test_a_change_of_an_included_file_is_refused(tmp_path: Path, persons: Persons) -> None:
    write(tmp_path, "rules: []\n", "more")
    path = write(tmp_path, "default: allow\ninclude: [more]\n")
    persons.sign(path, "jane@x.org")
    assert who(persons, path)
    write(tmp_path, "rules: []\n# a word\n", "more")
    assert why(persons, path) is Rejection.UNSIGNED


def test_what_was_read_is_what_is_checked(tmp_path: Path, persons: Persons) -> None:
    """The files change between reading and checking: the signature is of what was read."""
    path = write(tmp_path, ALLOW)
    persons.sign(path, "jane@x.org")
    good = FilePolicySource(path).load()
    write(tmp_path, "default: block\n")
    bad = FilePolicySource(path).load()
    write(tmp_path, ALLOW)  # put back, as a race would
    keys = trusted_keys(persons.trust)
    assert signers(good, path, keys)
    with pytest.raises(PolicyRefused):
        signers(bad, path, keys)


def test_a_link_that_is_swapped_brings_nothing_in(tmp_path: Path, persons: Persons) -> None:
    good = write(tmp_path, ALLOW)
    (tmp_path / "evil").mkdir()
    evil = write(tmp_path / "evil", "default: block\n")
    persons.sign(good, "jane@x.org")
    good.rename(tmp_path / "real.yaml")
    good.symlink_to(tmp_path / "real.yaml")
    assert who(persons, good)
    good.unlink()
    good.symlink_to(evil)
    assert why(persons, good) is Rejection.UNSIGNED


def test_two_keys_of_one_person_are_one_person(tmp_path: Path, persons: Persons) -> None:
    path = write(tmp_path, ALLOW)
    second = Ed25519PrivateKey.generate()
    text = f"{verifier_key('jane@x.org', public_bytes(second))}\n"
    (persons.trust / "jane-laptop.pub").write_text(text)
    file = persons.sign(path, "jane@x.org")
    policy = FilePolicySource(path).load()
    line = with_signature(policy, path, "jane@x.org", second).decode().rpartition("\n\n")[2]
    file.write_bytes(file.read_bytes() + line.encode())
    assert who(persons, path) == ("jane@x.org",)


@pytest.mark.parametrize("name", ["Jane", "jane x", "jane+x", "", "jane\n", "j" * 61, "jane123456"])
def test_a_name_that_could_pass_for_another_is_none(name: str) -> None:
    assert not is_person(name)


def take_out(folder: Path) -> None:
    for path in folder.glob("*.pub"):
        path.unlink()


def remove(folder: Path) -> None:
    take_out(folder)
    folder.rmdir()


def garble(folder: Path) -> None:
    (folder / "jane@x.org.pub").write_text("ssh-ed25519 AAAA")


def not_text(folder: Path) -> None:
    (folder / "jane@x.org.pub").write_bytes(b"\xff\xfe")


def open_to_all(folder: Path) -> None:
    folder.chmod(0o777)


def one_key_twice(folder: Path) -> None:
    (folder / "copy.pub").write_text((folder / "jane@x.org.pub").read_text())


def odd_name(folder: Path) -> None:
    key = public_bytes(Ed25519PrivateKey.generate())
    (folder / "odd.pub").write_text(verifier_key("JANE@x.org", key))


@pytest.mark.parametrize(
    "change", [take_out, remove, garble, not_text, open_to_all, one_key_twice, odd_name]
)
def test_without_a_sound_trust_folder_nothing_is_signed(
    tmp_path: Path, persons: Persons, change: object
) -> None:
    path = write(tmp_path, ALLOW)
    persons.sign(path, "jane@x.org")
    change(persons.trust)  # type: ignore[operator]
    assert why(persons, path) is Rejection.NO_TRUST_ROOT


def test_the_statement_names_all_that_the_signature_is_for(tmp_path: Path) -> None:
    policy = FilePolicySource(write(tmp_path, ALLOW)).load()
    assert statement(policy) == (
        f"ringfence-policy/v1\nfile trial.yaml\npack trial\nrevision 3\ndigest {policy.digest}\n"
    )


def test_keys_are_read_as_c2sp_writes_them(persons: Persons) -> None:
    keys = trusted_keys(persons.trust)
    assert {key.person for key in keys} == {"jane@x.org", "ben@x.org"}
    assert TrustedKey("ben@x.org", public_bytes(persons.keys["ben@x.org"])) in keys
