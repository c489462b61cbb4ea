"""Planted values are of the kind that they say, never the same twice, and the same by seed."""

from __future__ import annotations

from stdnum import iban, luhn

from proxy.selfcheck.canaries import ANY, MARKER, Canaries, Kind


def test_values_are_unique_and_can_be_made_again() -> None:
    made = [[(maker := Canaries(seed)) and maker.plant(kind) for _ in range(50) for kind in ANY]
            for seed in (1, 1)]  # fmt: skip
    assert made[0] == made[1]
    canaries = Canaries(2)
    values = [canaries.plant(kind).bare for kind in ANY for _ in range(150)]
    assert len(set(values)) == len(values)


def test_numbers_pass_their_checks() -> None:
    canaries = Canaries(3)
    for _ in range(100):
        assert luhn.is_valid(canaries.plant(Kind.CARD).bare)
        assert iban.is_valid(canaries.plant(Kind.IBAN).bare)


def test_a_twin_has_no_value_and_a_marker_is_known_again() -> None:
    canaries = Canaries(4)
    assert canaries.harmless().kind is None
    assert MARKER.fullmatch(canaries.marker().encode())
