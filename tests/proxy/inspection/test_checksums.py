"""Check digits: right ones hold, and any one digit changed does not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum import luhn

from proxy.inspection.checksums import CHECKS, check_by_name, compact, is_luhn, is_vin, valid_by

#: Source: the specimens in the documentation of python-stdnum and of 49 CFR 565.
SPECIMENS = {
    "luhn": "4111 1111 1111 1111",
    "vin": "1M8GDM9AXKP042788",
    "verhoeff": "1234567890120",
    "damm": "572-4",
    "mod_11_2": "07940",
    "mod_11_10": "002006673085",
    "mod_37_2": "G123489654321Y",
    "mod_37_36": "A12425GABC1234002M",
    "mod_97_10": "99991234567890121414 90",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "isin": "US0378331005",
    "lei": "213800KUD8LAJWSQ9D15",
    "ean": "978-0-471-11709-4",
    "imei": "49-015420-323751-8",
}


@given(st.text("0123456789", min_size=8, max_size=18).filter(lambda text: len(set(text)) > 1))
def test_a_digit_that_was_made_to_fit_fits_and_no_other_does(digits: str) -> None:
    right = luhn.calc_check_digit(digits)
    assert is_luhn(digits + right)
    assert [digit for digit in "0123456789" if is_luhn(digits + digit)] == [right]


@given(st.text("0123456789 -", max_size=20))
def test_marks_between_digits_change_nothing(text: str) -> None:
    assert is_luhn(text) == is_luhn("-".join(text))


@pytest.mark.parametrize("text", ["", "abc", "0000000000", "४१११११११११११११११"])
def test_what_is_no_number_has_no_check_digit(text: str) -> None:
    assert not is_luhn(text)


@given(st.integers(0, 16), st.sampled_from("0123456789ABCDEFGHJKLMNPRSTUVWXYZ"))
def test_a_vehicle_number_with_a_changed_sign_does_not_hold(place: int, sign: str) -> None:
    vin = SPECIMENS["vin"]
    changed = vin[:place] + sign + vin[place + 1 :]
    assume(_weight(changed) != _weight(vin) or changed[8] != vin[8])
    assert not is_vin(changed)


def _weight(vin: str) -> int:
    values = {**{str(n): n for n in range(10)}, **dict(zip("ABCDEFGH", range(1, 9), strict=True))}
    values |= dict(zip("JKLMN", range(1, 6), strict=True)) | {"P": 7, "R": 9}
    values |= dict(zip("STUVWXYZ", range(2, 10), strict=True))
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    return sum(values[c] * w for c, w in zip(vin, weights, strict=True)) % 11


@pytest.mark.parametrize("text", ["1M8GDM9AXKP04278", "IM8GDM9AXKP042788", "ß" * 17])
def test_what_has_not_the_form_of_a_vehicle_number_is_none(text: str) -> None:
    assert not is_vin(text)


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_a_policy_may_name_takes_its_specimen_and_refuses_another(name: str) -> None:
    check, specimen = check_by_name(name), SPECIMENS[name]
    assert check(specimen)
    last = specimen[-1]
    assert not any(check(specimen[:-1] + other) for other in "12345" if other != last)


def test_no_other_name_is_a_check() -> None:
    with pytest.raises(KeyError):
        check_by_name("os.system")


def test_a_national_number_is_checked_by_its_module() -> None:
    assert valid_by("pl.pesel")("44051401359")
    assert not valid_by("pl.pesel")("44051401358")


@given(st.text(max_size=40))
def test_compact_keeps_letters_and_digits_only(text: str) -> None:
    assert compact(compact(text)) == compact(text)
    assert all(char.isalnum() or not char.isascii() for char in compact(text))
