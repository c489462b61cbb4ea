"""Placeholders: one for a value, none for two, none that stood in the text before."""

from __future__ import annotations

import re

from proxy.egress.placeholders import ALPHABET, Vault


def test_a_value_has_one_placeholder_and_two_values_have_two() -> None:
    vault = Vault("")
    tokens = [vault.token_for("PERSON", f"Person {number}") for number in range(5000)]
    assert len(set(tokens)) == 5000
    assert vault.token_for("PERSON", "Person 7") == tokens[7]
    assert all(re.fullmatch(rf"<PERSON_[{ALPHABET}]{{6}}>", token) for token in tokens)
    assert all(re.search(r"\d", token) for token in tokens)


def test_an_id_that_stands_in_the_text_is_not_used(monkeypatch: object) -> None:
    first = Vault("")
    token = first.token_for("PERSON", "Ann")
    id_ = token[-7:-1]
    second = Vault(f"look: {id_.upper()}!")
    second._key = first._key  # the same draws
    assert second.token_for("PERSON", "Ann") != token


def test_finds_only_its_own_and_only_under_their_entity() -> None:
    vault = Vault("")
    id_ = vault.token_for("PERSON", "Ann")[-7:-1]
    entry = vault.find("person", id_.upper())
    assert entry is not None
    assert entry.value == "Ann"
    assert vault.find("LOCATION", id_) is None
    assert vault.find("PERSON", "zzzzzz") is None


def test_a_repr_shows_no_value() -> None:
    vault = Vault("Ann")
    vault.token_for("PERSON", "Ann")
    assert "Ann" not in repr(vault) + repr(list(vault))
