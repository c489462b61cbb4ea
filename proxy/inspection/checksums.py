"""Check digits, where python-stdnum does not have them in the form we need; each names its source.

python-stdnum (LGPL-2.1-or-later, used unmodified as a library) answers for the national ids.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Final

from stdnum import luhn

_VIN_VALUES: Final = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", [*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)], strict=True)
)
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def compact(text: str) -> str:
    """``text`` with nothing but letters and digits, upper case."""
    return "".join(char for char in text if char.isalnum()).upper()


def is_luhn(text: str) -> bool:
    """Whether the digits of ``text`` end in a valid check digit (ISO/IEC 7812-1, annex B)."""
    digits = "".join(char for char in text if char.isdigit())
    return bool(digits) and digits.isascii() and len(set(digits)) > 1 and luhn.is_valid(digits)


def is_vin(text: str) -> bool:
    """Whether ``text`` is a vehicle number with a valid check digit.

    Source: 49 CFR 565.15(c); North American vehicles only carry the digit.
    """
    vin = compact(text)
    if len(vin) != 17 or not vin.isascii() or any(char in "IOQ" for char in vin):
        return False
    values = (int(char) if char.isdigit() else _VIN_VALUES[char] for char in vin)
    rest = sum(value * weight for value, weight in zip(values, _VIN_WEIGHTS, strict=True)) % 11
    return vin[8] == ("X" if rest == 10 else str(rest))


@cache
def valid_by(module: str) -> Callable[[str], bool]:
    """The ``is_valid`` of a python-stdnum module, such as ``pl.pesel``."""
    is_valid: Callable[[str], bool] = import_module(f"stdnum.{module}").is_valid
    return is_valid


#: The checks that a policy may ask of what it recognizes: its word, and the function that answers.
#: Those of python-stdnum by module; closed, since a name from a file is never imported as it is.
_STDNUM_CHECKS: Final = {
    "verhoeff": "verhoeff",
    "damm": "damm",
    "mod_11_2": "iso7064.mod_11_2",
    "mod_11_10": "iso7064.mod_11_10",
    "mod_37_2": "iso7064.mod_37_2",
    "mod_37_36": "iso7064.mod_37_36",
    "mod_97_10": "iso7064.mod_97_10",
    "iban": "iban",
    "isin": "isin",
    "lei": "lei",
    "ean": "ean",
    "imei": "imei",
}
CHECKS: Final = ("luhn", "vin", *_STDNUM_CHECKS)


@cache
def check_by_name(name: str) -> Callable[[str], bool]:
    """The function behind one of `CHECKS`; it sees letters and digits only.

    Raises:
        KeyError: no such check.
    """
    if name == "luhn":
        return is_luhn
    if name == "vin":
        return is_vin
    is_valid = valid_by(_STDNUM_CHECKS[name])
    return lambda text: is_valid(compact(text))
