"""Made-up values of the kind of a masked one, which a model can work with as if they were real.

What reads like one in the answer is replaced by the value, so each is drawn to be one that an
answer does not hold by chance. Names are double names; numbers come from ranges that belong to
nobody, where there are such and they are wide enough:

* mail: `example.com`, `example.net`, `example.org` (RFC 2606);
* phone: 555-0100 to 555-0199 of a North American area, kept for fiction;
* card: numbers that begin with 9999, which ISO/IEC 7812 leaves to no issuer, with a valid check
  digit (Luhn);
* IBAN: country and form of the value, the rest drawn, with valid check digits (ISO 13616). No range
  is kept free for tests, so the number may be somebody's;
* IP address: 198.18.0.0/15 (RFC 2544) and 2001:db8::/32 (RFC 3849).

Names are those of Faker (MIT), of which only the lists are used: nothing of it is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

_MAIL_HOSTS: Final = ("example.com", "example.net", "example.org")
_DIGITS: Final = "0123456789"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CARD_PREFIX: Final = "9999"
_IBAN: Final = re.compile(r"([A-Za-z]{2})[0-9]{2}([A-Za-z0-9]{11,30})")

#: Words of made-up values that stand for nobody: they may stand in the request as well.
FIXED_WORDS: Final = frozenset(
    "example com net org group road north east west south new lake port db8".split()
)


class Draw:
    """Picks from lists by a keyed digest: the same digest picks the same."""

    __slots__ = ("_left",)

    def __init__(self, digest: bytes) -> None:
        self._left = int.from_bytes(digest)

    def of(self, choices: Sequence[str]) -> str:
        """One of ``choices``."""
        self._left, place = divmod(self._left, len(choices))
        return choices[place]

    def digits(self, num: int) -> str:
        """``num`` digits."""
        return "".join(self.of(_DIGITS) for _ in range(num))


def made_up(entity: str, value: str, draw: Draw) -> str | None:
    """A value that passes for one of ``entity``, in the form of ``value``; None where none can."""
    maker = _MAKERS.get(entity)
    return maker(value, draw) if maker is not None else None


def parts_of(entity: str, pseudonym: str, value: str) -> dict[str, str]:
    """What else an answer may write for ``pseudonym``, and what then stands for the value.

    The first or last name of a person alone: that of the person where the name has two words,
    else the whole name.
    """
    names = pseudonym.split()
    if entity != "PERSON" or len(names) < 2:
        return {}
    words = value.split()
    return dict(zip(names, words if len(words) == 2 else [value, value], strict=True))


@cache
def _first_names() -> tuple[str, ...]:
    from faker.providers.person.en_US import Provider  # only where a policy asks for it

    return _names(Provider.first_names, "[A-Z][a-z]{3,8}")


@cache
def _last_names() -> tuple[str, ...]:
    from faker.providers.person.en_US import Provider

    return _names(Provider.last_names, "[A-Z][a-z]{3,9}")


def _names(given: Iterable[str], form: str) -> tuple[str, ...]:
    """Those of a form. None is a word that pseudonyms may share: two persons would share a name."""
    return tuple(
        name for name in given if re.fullmatch(form, name) and name.lower() not in FIXED_WORDS
    )


def _double(names: Sequence[str], draw: Draw) -> str:
    return f"{draw.of(names)}-{draw.of(names)}"


def _person(value: str, draw: Draw) -> str:
    first = _double(_first_names(), draw)
    return f"{first} {_double(_last_names(), draw)}" if len(value.split()) > 1 else first


def _mail(_: str, draw: Draw) -> str:
    name = f"{draw.of(_first_names())}.{_double(_last_names(), draw)}".lower()
    return f"{name}@{draw.of(_MAIL_HOSTS)}"


def _phone(_: str, draw: Draw) -> str:
    area = f"{draw.of('2346789')}{draw.of('02346789')}{draw.of('2346789')}"
    return f"+1 {area}-555-01{draw.digits(2)}"


def _place(_: str, draw: Draw) -> str:
    side = draw.of(("North", "East", "West", "South", "New", "Lake", "Port"))
    return f"{side} {_double(_last_names(), draw)}"


def _street(_: str, draw: Draw) -> str:
    return f"{draw.of('123456789')}{draw.digits(2)} {_double(_last_names(), draw)} Road"


def _organization(_: str, draw: Draw) -> str:
    return f"{_double(_last_names(), draw)} Group"


def _iban(value: str, draw: Draw) -> str | None:
    found = _IBAN.fullmatch(_signs(value))
    if found is None:
        return None
    country = found[1].upper()
    account = "".join(draw.of(_DIGITS if sign.isdigit() else _LETTERS) for sign in found[2])
    return _in_form(value, country + mod_97_10.calc_check_digits(account + country) + account)


def _card(value: str, draw: Draw) -> str | None:
    digits = _signs(value)
    if not re.fullmatch("[0-9]{12,19}", digits):
        return None
    drawn = _CARD_PREFIX + draw.digits(len(digits) - len(_CARD_PREFIX) - 1)
    return _in_form(value, drawn + str(luhn.calc_check_digit(drawn)))


def _address(value: str, draw: Draw) -> str:
    if ":" in value:
        groups = (f"{draw.of('123456789abcdef')}{draw.digits(3)}" for _ in range(6))
        return "2001:db8:" + ":".join(groups)
    octet = [str(number) for number in range(1, 255)]
    return f"198.{draw.of(('18', '19'))}.{draw.of(octet)}.{draw.of(octet)}"


def _birthday(value: str, draw: Draw) -> str | None:
    """Another day in the same form; month and day are at most 12, so that any order is a date."""
    year, day = f"19{draw.of('3456789')}{draw.of(_DIGITS)}", [f"{n:02}" for n in range(1, 13)]
    one, two = draw.of(day), draw.of(day)
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return f"{year}-{one}-{two}"
    found = re.fullmatch(r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{4}", value)
    return f"{one}{found[1]}{two}{found[1]}{year}" if found else None


def _signs(value: str) -> str:
    return "".join(sign for sign in value if sign not in " -")


def _in_form(value: str, signs: str) -> str:
    """``signs`` with blanks and hyphens where ``value`` has them."""
    given = iter(signs)
    return "".join(sign if sign in " -" else next(given) for sign in value)


_MAKERS: Final[dict[str, Callable[[str, Draw], str | None]]] = {
    "PERSON": _person,
    "EMAIL_ADDRESS": _mail,
    "EMAIL": _mail,
    "PHONE_NUMBER": _phone,
    "LOCATION": _place,
    "STREET_ADDRESS": _street,
    "ORGANIZATION": _organization,
    "IBAN_CODE": _iban,
    "CREDIT_CARD": _card,
    "IP_ADDRESS": _address,
    "DATE_OF_BIRTH": _birthday,
}
