"""Street addresses by the way each country writes them, as linear patterns (RE2).

A number and a street word are both needed; a place name alone is never an address here.
Source of the orders of parts: Universal Postal Union, S42 templates and the UPU country pages.
"""

# Patterns stay whole on their line and hold the signs of other scripts.
# ruff: noqa: E501, RUF001
from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from proxy.inspection.linear import LinearSet

_WORD: Final = r"[\p{Lu}\d][\p{L}\d.'’\-]*"

_WORD_ONLY: Final = r"\p{Lu}[\p{L}.'’\-]{2,30}"

_ENGLISH: Final = (
    r"\b(?:\d{1,5}\s)?\d{1,6}[A-Za-z]?(?:-\d{1,4})?,?\s(?:(?:North|South|East|West|[NSEW][EW]?)\.?\s)?"
    rf"(?:{_WORD}\s){{1,4}}(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|"
    r"Square|Sq|Place|Pl|Way|Terrace|Ter|Parkway|Pkwy|Circle|Cir|Highway|Hwy|Close|Crescent|Cres|"
    r"Trail|Trl|Row|Gardens|Grove|Mews|Quay|Turnpike|Alley|Loop|Plaza|Path|Ridge|Route|Expressway|"
    r"Heights|Hill|Park|Green|Station|Corner|Crossing|Esplanade|Parade)\b"
    r"(?:\.?,?\s(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|#)\.?\s?[A-Za-z0-9\-]{1,6})?"
    rf"(?:[.,]{{0,2}}\s{_WORD}(?:\s{_WORD})?,?\s[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?)?"
)
_CITY_STATE_ZIP: Final = (
    r"\b\p{Lu}[\p{L}.'\-]+(?:\s\p{Lu}[\p{L}.'\-]+){0,2},?\s+"
    r"(?:A[AEKLPRSZ]|C[AOT]|D[CE]|FL|GA|GU|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]|"
    r"P[AR]|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY])\s+\d{5}(?:-\d{4})?\b"
)
_MILITARY: Final = (
    r"(?i)\b(?:PSC|CMR|Unit|Box|USNS|USS|USCGC|USNV)\s[^\n]{1,40}[\s,]+(?:APO|FPO|DPO)\s(?:AA|AE|AP)\b"
    r"|(?i)\b(?:APO|FPO|DPO),?\s(?:AA|AE|AP),?\s\d{5}(?:-\d{4})?\b"
)
_NUMBER_TWICE: Final = rf"(?:^|[\n>?,;:]\s{{0,3}}|\b(?:at|to|in|is|address)\s)(\d{{2,6}}\s{_WORD_ONLY}(?:\s{_WORD_ONLY}){{0,3}}\s\d{{1,4}})(?:$|[\s,;.])"
_SUITE: Final = r"\b(?:Suite|Ste\.|Apt\.?|Apartment)\s#?\d{1,5}[A-Z]?\b"
_UNIT: Final = rf"\b\d{{1,6}}\s(?:{_WORD}\s){{1,4}}(?:{_WORD}\s)?(?:Apt|Apartment|Suite|Ste|Unit)\.?\s?#?\d{{1,6}}\b"
_PO_BOX: Final = r"(?i)\b(?:P\.?\s?O\.?\s?Box|Postfach|Apartado(?: de correos)?|Casilla|Bo[iî]te Postale|Skr\. poczt\.|Postbus)\s#?\d{1,7}"
_GERMANIC: Final = (
    r"(?:\b\d{1,5}\s)?\p{Lu}[\p{L}.\-]*(?:[\-\s](?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|[Gg]asse|[Aa]llee|[Dd]amm|[Uu]fer|[Pp]romenade|[Cc]haussee|"
    r"[Ww]eg|[Pp]latz|[Rr]ing|[Ss]teig|[Ss]traat|[Ll]aan|[Pp]lein|[Hh]of|utca|útca|út|tér|tere|körút|u\.)|"
    r"stra(?:ß|ss)e|str\.|gasse|allee|damm|ufer|brücke|promenade|chaussee|weg|platz|(?:er|en|s)ring|steig|stieg|"
    r"straat|laan|plein|gracht|kade|dreef|singel|hof|gatan|vägen|gata|väg|torget|gränd|stigen|"
    r"vej|gade|veien|katu|tie|kuja|polku)\s{1,2}\d{1,4}\s?[a-zA-Z]?\b"
    r"|\b\p{Ll}[\p{L}.\-]+(?:stra(?:ß|ss)e|gasse|straat|gracht|gatan|vägen|katu|ntie|brücke|[\s\-](?:utca|út|tér))\s\d{1,4}\b"
)
_ROMANCE_NUMBER_FIRST: Final = (
    r"(?i)\b(?:\d{4,6}\s)?\d{1,4}\s?(?:bis|ter|quater)?,?\s(?:rue|avenue|av\.|boulevard|bd|place|chemin|all[ée]e|impasse|"
    r"quai|route|cours|square|passage|faubourg)\s(?:d[eu]s?\s|de\sla\s|d'|de\sl')?\p{L}[\p{L}'\-]+"
)
_ROMANCE: Final = (
    r"\b(?:[Cc]alle|C/|C\.|[Aa]vda\.?|[Aa]v\.|[Aa]venida|[Pp]laza|[Pp]laça|[Rr]ue|[Bb]oulevard|[Cc]hemin|[Pp]aseo|[Pp]asseig|[Cc]arrer|"
    r"[Rr]onda|[Cc]amino|[Cc]tra\.?|[Cc]arretera|[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|[Vv]icolo|[Ll]argo|"
    r"[Ss]trada|[Rr]ua|[Tt]ravessa|[Pp]raça|[Ee]strada|[Uu]rb\.|[Uu]rbanización|[Tt]ravesía|[Gg]lorieta)\s?"
    r"[\p{L}'ºª.\- ]{2,40},?\s?(?:n[ºo°.]*\s?|núm\.?\s?|número\s)?\d{1,4}\b"
)
_POLISH: Final = (
    r"\b(?:ul\.|al\.|os\.|pl\.|ulica|ulicy|aleja|osiedle|plac)\s{1,2}[\p{L}\d][\p{L}\d.'\-]*"
    r"(?:\s[\p{L}\d.'\-]+){0,3}\s\d{1,4}[a-zA-Z]?(?:\s?/\s?\d{1,4})?"
)
_POSTCODE_CITY: Final = r"\b(?:[A-Z]{1,2}-)?\d{2}-\d{3}\s\p{Lu}\p{L}+"
_CHINESE: Final = (
    r"(?:\p{Han}{2,7}(?:省|自治区))?\p{Han}{2,7}(?:市|区|县|州|盟)\p{Han}{0,12}(?:路|街|道|巷|弄|村|镇|小区|花园|大厦)"
    r"\p{Han}{0,6}\d{1,5}(?:号|弄|栋|幢|室|单元)[\p{Han}\d\-]{0,16}"
)
_CHINESE_SHORT: Final = r"\p{Han}{2,10}(?:路|街|巷|弄|大道)\d{1,5}(?:号|弄)[\p{Han}\d\-]{0,12}"
_JAPANESE: Final = r"〒\s?\d{3}-?\d{4}|\p{Han}{2,3}[都道府県]\p{Han}{1,6}[市区郡町村][\p{Han}\p{Hiragana}\p{Katakana}]{0,12}\d{1,4}[\-丁番]"
_UK_POSTCODE: Final = r"\b[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}\b"

#: (pattern, score)
_PATTERNS: Final = (
    (_ENGLISH, 0.7),
    (_CITY_STATE_ZIP, 0.6),
    (_MILITARY, 0.7),
    (_UNIT, 0.6),
    (_SUITE, 0.45),
    (_NUMBER_TWICE, 0.45),
    (_PO_BOX, 0.6),
    (_GERMANIC, 0.65),
    (_ROMANCE_NUMBER_FIRST, 0.65),
    (_ROMANCE, 0.6),
    (_POLISH, 0.7),
    (_POSTCODE_CITY, 0.5),
    (_CHINESE, 0.7),
    (_CHINESE_SHORT, 0.55),
    (_JAPANESE, 0.65),
    (_UK_POSTCODE, 0.5),
)


_MONTHS: Final = frozenset("jan feb mar apr may jun jul aug sep oct nov dec".split())


def _has_month(text: str) -> bool:
    """Whether numbers beside a word are a date: "12 March 2020"."""
    return any(word[:3].lower() in _MONTHS for word in text.split() if word[0].isalpha())


@cache
def _compiled() -> LinearSet[float]:
    return LinearSet([(score, pattern) for pattern, score in _PATTERNS])


def addresses(text: str) -> Iterator[tuple[str, int, int, float]]:
    """Every (entity, start, end, score) of a street address in ``text``."""
    for score, match in _compiled().finditer(text):
        group = match.re.groups  # the one pattern with a group is the one that a date looks like
        if not group or not _has_month(match[1]):
            yield "STREET_ADDRESS", *match.span(group), score
