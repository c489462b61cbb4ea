"""Values that are planted: made up, each unique, each of a kind that nobody should send away.

They are drawn from a seed, so that a run can be repeated. None is anybody's: card numbers and
account numbers only pass their checksum, telephone numbers are of the range kept for fiction.
"""

from __future__ import annotations

import enum
import random
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final


class Kind(enum.Enum):
    """What a value is; ``bare`` kinds show by their form alone, without a sentence around."""

    EMAIL = "e-mail address"
    CARD = "card number"
    IBAN = "account number"
    KEY = "API key"
    PERSON = "name"
    PHONE = "telephone number"
    SSN = "social security number"


BARE: Final = (Kind.EMAIL, Kind.CARD, Kind.IBAN, Kind.KEY)
SPLITTABLE: Final = (Kind.CARD, Kind.EMAIL)
CARDS: Final = (Kind.CARD,)
ANY: Final = tuple(Kind)

#: The form of a marker, by which a request is known.
MARKER: Final = re.compile(rb"qz[a-z]{10}")

_SENTENCES: Final[Mapping[Kind, str]] = {
    Kind.EMAIL: "Please write to {} about the contract.",
    Kind.CARD: "My card number is {}, charge it today.",
    Kind.IBAN: "Please pay the rent to {} this week.",
    Kind.KEY: "The deploy key is {} and must be rotated.",
    Kind.PERSON: "My name is {} and I want to change my contract.",
    Kind.PHONE: "Call me on {} after five.",
    Kind.SSN: "My social security number is {}.",
}

_GIVEN: Final = (
    "Alice Brian Carol Daniel Emily Frank Grace Henry Irene James Karen Laura Martin Nancy Oliver "
    "Patricia Robert Sarah Thomas Victoria William Rachel Steven Julia"
).split()
_FAMILY: Final = (
    "Anderson Bennett Carpenter Dawson Ellison Fletcher Gibson Harrison Jenkins Kingsley Lambert "
    "Mitchell Nicholson Parker Richardson Sanderson Thornton Wallace Atkinson Barlow Coleman "
    "Donovan Hughes Peterson"
).split()
_AREA_CODES: Final = "201 212 303 312 404 415 503 512 602 617 702 713 805 818 917".split()


@dataclass(frozen=True, slots=True)
class Plant:
    """What is put into a request: a value and a sentence that says it.

    ``kind`` is None for the harmless twin, whose value is an ordinary word.
    """

    kind: Kind | None
    bare: str = field(repr=False)
    sentence: str = field(repr=False)

    @property
    def number(self) -> int:
        """The value as a number, where it is one."""
        return int(self.bare) if self.bare.isdigit() else 2_025

    @property
    def halves(self) -> tuple[str, str]:
        """The value in two pieces, neither of which is one."""
        middle = len(self.bare) // 2
        return self.bare[:middle], self.bare[middle:]


class Canaries:
    """Makes values, none twice."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311  # no secret
        self._made: set[str] = set()
        self._makers: Mapping[Kind, Callable[[], str]] = {
            Kind.EMAIL: self._email,
            Kind.CARD: self._card,
            Kind.IBAN: self._iban,
            Kind.KEY: self._key,
            Kind.PERSON: self._person,
            Kind.PHONE: self._phone,
            Kind.SSN: self._ssn,
        }

    def plant(self, kind: Kind) -> Plant:
        """A fresh value."""
        while (value := self._makers[kind]()) in self._made:
            pass
        self._made.add(value)
        return Plant(kind, value, _SENTENCES[kind].format(value))

    def harmless(self) -> Plant:
        """What may leave, in the same place."""
        return Plant(None, "longest-river", "Which of the rivers is the longest?")

    def marker(self) -> str:
        """A word that stands nowhere else and means nothing."""
        return "qz" + self._of(string.ascii_lowercase, 10)

    def _of(self, letters: str, count: int) -> str:
        return "".join(self._dice.choices(letters, k=count))

    def _email(self) -> str:
        given, family = self._dice.choice(_GIVEN), self._dice.choice(_FAMILY)
        host = self._dice.choice(("example.org", "example.com", "example.net"))
        return f"{given}.{family}{self._of(string.digits, 4)}@{host}".lower()

    def _card(self) -> str:
        digits = self._dice.choice("45") + self._of(string.digits, 14)
        if digits[0] == "5":  # Mastercard's range begins with 51 to 55
            digits = "5" + self._dice.choice("12345") + digits[2:]
        doubled = (int(d) * (2 - place % 2) for place, d in enumerate(digits))
        return f"{digits}{-sum(n - 9 * (n > 9) for n in doubled) % 10}"

    def _iban(self) -> str:
        account = self._of(string.digits, 18)  # Germany: bank code and account, ISO 13616
        check = 98 - int(f"{account}131400") % 97
        return f"DE{check:02d}{account}"

    def _key(self) -> str:
        mixed = string.ascii_letters + string.digits
        forms = (
            "ghp_" + self._of(mixed, 36),
            "sk-proj-" + self._of(mixed, 40),
            "AKIA" + self._of(string.ascii_uppercase + "234567", 16),
            "glpat-" + self._of(mixed, 20),
        )
        return self._dice.choice(forms)

    def _person(self) -> str:
        return f"{self._dice.choice(_GIVEN)} {self._dice.choice(_FAMILY)}"

    def _phone(self) -> str:
        return f"+1 {self._dice.choice(_AREA_CODES)}-555-01{self._of(string.digits, 2)}"

    def _ssn(self) -> str:
        first = self._dice.choice(("219", "457", "536", "078", "412", "281"))
        return f"{first}-{self._dice.randint(10, 99)}-{self._dice.randint(1_000, 9_999)}"
