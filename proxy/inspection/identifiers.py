"""Identifiers by their own form: numbers with check digits, phones, plates, wallets, coordinates.

A form that means nothing without a check digit or a word beside it is not listed here; values
announced by a word are `labels`' part, addresses `addresses`'. All patterns are linear (RE2).
"""

# Patterns stay whole on their line and hold the signs of other scripts.
# ruff: noqa: E501
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import phonenumbers

from proxy.inspection.addresses import addresses
from proxy.inspection.checksums import compact, is_luhn, is_vin, valid_by
from proxy.inspection.entities import category_of
from proxy.inspection.labels import announced
from proxy.inspection.linear import LinearSet, compile_linear
from proxy.types import Finding, Role, Segment


@dataclass(frozen=True, slots=True)
class Form:
    """A written form. ``check`` (if any) decides; ``source`` is where the form is published."""

    entity: str
    pattern: str
    score: float
    source: str
    check: Callable[[str], bool] | None = None


def _stdnum(*modules: str) -> Callable[[str], bool]:
    return lambda text: any(valid_by(module)(compact(text)) for module in modules)


def _is_possible_phone(text: str) -> bool:
    try:
        number = phonenumbers.parse(text.replace("(0)", ""), None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_possible_number(number)


def _has_9_to_11_digits(text: str) -> bool:
    return 9 <= sum(char.isdigit() for char in text) <= 11


_STDNUM: Final = "python-stdnum, module of that name, and the sources it names"
_LIBPHONE: Final = "ITU-T E.123 and E.164; phonenumbers"

_EMAIL: Final = r"(?i)[a-z0-9][a-z0-9._+\-]{0,63}(?:@|%40)(?:[a-z0-9\-]{1,63}\.){1,5}[a-z]{2,24}"

#: Strong forms: a check digit, or a shape that nothing else has.
FORMS: Final = (
    Form("EMAIL_ADDRESS", _EMAIL, 0.9, "RFC 5322, section 3.4.1, with the usual letters"),
    Form(
        "IBAN_CODE",
        r"(?i)\b[A-Z]{2}\d{2}(?:[ \-\n]?[A-Z0-9]){11,30}\b",
        0.9,
        "ISO 13616-1",
        lambda text: any(
            valid_by("iban")(compact(text)[:size])
            for size in range(15, min(34, len(compact(text))) + 1)
        ),
    ),
    Form("CREDIT_CARD", r"\b[2-6](?:[ \-]?\d){12,18}\b", 0.8, "ISO/IEC 7812-1", is_luhn),
    Form("CREDIT_CARD", r"\b[3-6]\d{3}([ \-])\d{4}[ \-]\d{4}[ \-]\d{4}\b", 0.6, "ISO/IEC 7812-1"),
    Form("VIN", r"\b[A-HJ-NPR-Z0-9]{17}\b", 0.8, "49 CFR 565.15", is_vin),
    Form("US_SSN", r"\b\d{3}-\d{2}-\d{4}\b", 0.6, "SSA, RM 10201.025"),
    Form("NATIONAL_ID", r"\b[1-9]\d{16}[\dXx]\b", 0.9, _STDNUM, _stdnum("cn.ric")),
    Form("NATIONAL_ID", r"\b[1-9]\d{5}-?(?:19|20)\d{6}-?\d{3}[\dXx]\b", 0.7, "GB 11643-1999"),
    Form("KR_RRN", r"\b\d{2}[01]\d[0-3]\d-[1-8]\d{6}\b", 0.7, "Resident Registration Act (KR)"),
    Form("PL_PESEL", r"\b\d{11}\b", 0.6, _STDNUM, _stdnum("pl.pesel")),
    Form("TR_NATIONAL_ID", r"\b[1-9]\d{10}\b", 0.5, _STDNUM, _stdnum("tr.tckimlik")),
    Form("DE_TAX_ID", r"\b[1-9]\d(?: ?\d{3}){3}\b", 0.5, _STDNUM, _stdnum("de.idnr")),
    Form(
        "NATIONAL_ID",
        r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b",
        0.8,
        _STDNUM,
        _stdnum("br.cpf"),
    ),
    Form("TAX_ID", r"\b\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}\b", 0.7, _STDNUM, _stdnum("br.cnpj")),
    Form("IN_AADHAAR", r"\b[2-9]\d{3}[ \-:]\d{4}[ \-:]\d{4}\b", 0.6, "UIDAI circular on Aadhaar"),
    Form("IN_AADHAAR", r"\b[2-9]\d{11}\b", 0.5, _STDNUM, _stdnum("in_.aadhaar")),
    Form("IN_PAN", r"\b[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]\b", 0.6, "Rule 114, Income-tax Rules"),
    Form("TAX_ID", r"\b\d{2}[A-Z]{5}\d{4}[A-Z][0-9A-Z]Z[0-9A-Z]\b", 0.7, "GSTN"),
    Form(
        "TAX_ID",
        r"\b[0-9A-HJ-NPQRTUWXY]{2}\d{6}[0-9A-HJ-NPQRTUWXY]{10}\b",
        0.7,
        _STDNUM,
        _stdnum("cn.uscc"),
    ),
    Form("IN_VOTER", r"\b[A-Z]{3}\d{7}\b", 0.45, "Election Commission of India, EPIC"),
    Form(
        "IT_FISCAL_CODE",
        r"(?i)\b[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b",
        0.8,
        "D.M. 23/12/1976 (IT)",
    ),
    Form("ES_NIF", r"(?i)\b\d{8}[ \-]?[A-HJ-NP-TV-Z]\b", 0.7, _STDNUM, _stdnum("es.dni")),
    Form("ES_NIE", r"(?i)\b[XYZ][ \-]?\d{7}[ \-]?[A-Z]\b", 0.7, _STDNUM, _stdnum("es.nie")),
    Form(
        "FI_PERSONAL_IDENTITY_CODE",
        r"(?i)\b[0-3]\d[01]\d{3}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]\b",
        0.7,
        _STDNUM,
        _stdnum("fi.hetu"),
    ),
    Form(
        "SE_PERSONNUMMER",
        r"\b(?:19|20)?\d{6}[-+]\d{4}\b",
        0.6,
        _STDNUM,
        _stdnum("se.personnummer", "se.orgnr"),
    ),
    Form(
        "SE_PERSONNUMMER",
        r"\b(?:19|20)?\d{6}[-+]\d{4}\b",
        0.6,
        "SKV 704",
        lambda text: is_luhn(compact(text)[-10:]),
    ),
    Form("SE_ORGANISATIONSNUMMER", r"\b\d{10}\b", 0.4, _STDNUM, _stdnum("se.orgnr")),
    Form(
        "UK_NINO",
        r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b",
        0.7,
        "HMRC NIM39110",
    ),
    Form(
        "UK_DRIVING_LICENCE",
        r"\b[A-Z9]{5}\d[0156]\d[0-3]\d\d[A-Z9]{2}[A-Z0-9]{3}\b",
        0.7,
        "DVLA, INF1D",
    ),
    Form("UK_NHS", r"\b\d{3}[ \-]\d{3}[ \-]\d{4}\b", 0.7, _STDNUM, _stdnum("gb.nhs")),
    Form("ZA_ID_NUMBER", r"\b\d{13}\b", 0.6, _STDNUM, _stdnum("za.idnr")),
    Form("TH_TNIN", r"\b[1-8](?:-?\d){12}\b", 0.6, _STDNUM, _stdnum("th.pin")),
    Form("CA_SIN", r"\b[1-79]\d{2}[ \-]\d{3}[ \-]\d{3}\b", 0.6, _STDNUM, _stdnum("ca.sin")),
    Form("US_ITIN", r"\b9\d{2}[ \-][5-9]\d[ \-]\d{4}\b", 0.6, "IRS, Publication 1915"),
    Form("SG_NRIC_FIN", r"\b[STFGM]\d{7}[A-Z]\b", 0.6, "ICA (SG)"),
    Form(
        "US_MBI",
        r"\b[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]"
        r"[AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}\b",
        0.7,
        "CMS, MBI format",
    ),
    Form(
        "NATIONAL_ID",
        r"\b[12] ?\d{2} ?[0-1]\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}\b",
        0.6,
        _STDNUM,
        _stdnum("fr.nir"),
    ),
    Form("NATIONAL_ID", r"\b756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}\b", 0.7, _STDNUM, _stdnum("ch.ssn")),
    Form(
        "CASE_NUMBER",
        r"\b(?:19|20)\d\d-[A-Z]{2,5}-\d{3,8}\b",
        0.55,
        "docket numbering of US state courts",
    ),
    Form(
        "CASE_NUMBER",
        r"\b\d:\d{2}-(?:cv|cr|mj|bk|mc|md)-\d{4,6}\b",
        0.6,
        "PACER, CM/ECF case number format",
    ),
    Form(
        "MEMBERSHIP_ID",
        r"\b(?:[A-Z]{2,5}-){1,2}\d{4}-\d{5,9}\b",
        0.5,
        "common form of internal reference numbers",
    ),
    Form("MAC_ADDRESS", r"(?i)\b(?:[0-9A-F]{2}[:\-]){5}[0-9A-F]{2}\b", 0.8, "IEEE 802-2014, 8.1"),
    Form("MAC_ADDRESS", r"(?i)\b(?:[0-9A-F]{4}\.){2}[0-9A-F]{4}\b", 0.7, "IEEE 802-2014, 8.1"),
    Form("CRYPTO", r"\b0x[0-9a-fA-F]{40}\b", 0.8, "EIP-55"),
    Form(
        "CRYPTO",
        r"\b(?:bc1[02-9ac-hj-np-z]{25,62}|[13][1-9A-HJ-NP-Za-km-z]{25,34})\b",
        0.5,
        "BIP-173; Base58Check",
    ),
    Form("PHONE_NUMBER", r"\+\d(?:[ .\-()/]{0,3}\d){6,14}", 0.75, _LIBPHONE, _is_possible_phone),
    Form(
        "PHONE_NUMBER",
        r"(?:\+?1[ .\-]?)?\(\d{3}\)[ .\-]?\d{3}[ .\-]\d{4}\b",
        0.7,
        "NANPA, number format",
    ),
    Form(
        "PHONE_NUMBER",
        r"\b(?:\+?1[.\-])?\d{3}([.\-])\d{3}[.\-]\d{4}\b",
        0.6,
        "NANPA, number format",
    ),
    Form("PHONE_NUMBER", r"\b1[3-9]\d{9}\b", 0.65, "MIIT numbering plan (CN)"),
    Form("PHONE_NUMBER", r"\b01[016789]-?\d{3,4}-\d{4}\b", 0.65, "MSIT numbering plan (KR)"),
    Form(
        "PHONE_NUMBER", r"\b0\d{1,4}(?:[ .\-/]\d{2,4}){2,4}\b", 0.5, _LIBPHONE, _has_9_to_11_digits
    ),
    Form(
        "LICENSE_PLATE",
        r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·・ ]?[A-Z0-9]{5,6}",
        0.7,
        "GA 36-2018 (CN)",
    ),
    Form("LICENSE_PLATE", r"\b[A-Z]{2}\d{2} [A-Z]{3}\b", 0.5, "DVLA, INF104 (GB)"),
    Form(
        "LICENSE_PLATE", r"\b(?:0[1-9]|[1-7]\d|8[01]) [A-Z]{1,3} \d{2,4}\b", 0.5, "KTK art. 23 (TR)"
    ),
    Form("COORDINATES", r"[-+]?\d{1,2}\.\d{4,8},\s?[-+]?\d{1,3}\.\d{4,8}\b", 0.6, "ISO 6709"),
)

#: A message of a person that is nothing but a code: the answer to "what is your number?".
_BARE_CODE: Final = (
    r"^\W{0,3}((?:[A-Z]{1,6}[ \-/]?)?\d(?:[ \-./]?[A-Z]{0,3}\d){5,24}[A-Z]{0,3})\W{0,3}$"
)


#: The same, of letters and digits mixed, as plates and passports are: at most three groups.
_BARE_PLATE: Final = r"^\W{0,3}([A-Za-z\d]{1,9}(?:[ \-][A-Za-z\d]{1,9}){0,2})\W{0,3}$"


def _is_coded(part: str) -> bool:
    """Whether a group is of digits or capitals, or mixes both: no word of a language."""
    return any(char.isdigit() for char in part) or part.isupper() or len(part) == 1


class IdentifiersDetector:
    """Finds identifiers by form, by announcing word, and postal addresses."""

    name = "identifiers"
    version = "1"

    def __init__(self) -> None:
        self._forms = LinearSet([(form, form.pattern) for form in FORMS])
        self._bare = compile_linear(_BARE_CODE)
        self._plate = compile_linear(_BARE_PLATE)
        tuple(announced("warm up"))

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find identifiers; see `Detector`."""
        found: dict[tuple[str, int, int, int], Finding] = {}
        for segment in segments:
            if segment.text is None:
                continue
            for entity, start, end, score in self._in_segment(segment, segment.text):
                key = (entity, segment.index, start, end)
                if key not in found or found[key].score < score:
                    found[key] = Finding(
                        entity, category_of(entity), segment.index, start, end, score, self.name
                    )
        return tuple(found.values())

    def _in_segment(self, segment: Segment, text: str) -> Iterator[tuple[str, int, int, float]]:
        # Every form but an e-mail address holds a digit.
        if "@" in text or any(char.isdigit() for char in text):
            yield from self._by_form(text)
            yield from addresses(text)
            if segment.role is Role.USER and (span := self._bare_code(text)) is not None:
                yield "ID", *span, 0.45
        yield from announced(text)

    def _bare_code(self, text: str) -> tuple[int, int] | None:
        if match := self._bare.search(text):
            return match.start(1), match.end(1)
        if match := self._plate.search(text):
            parts = match[1].replace("-", " ").split()
            coded = all(_is_coded(part) for part in parts)
            if (
                coded
                and 6 <= sum(map(len, parts)) <= 14
                and any(char.isalpha() for char in match[1])
            ):
                return match.start(1), match.end(1)
        return None

    def _by_form(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        for form, match in self._forms.finditer(text):
            if form.check is None or form.check(match[0]):
                yield form.entity, match.start(), match.end(), form.score
