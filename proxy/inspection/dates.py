"""The written forms of a calendar date, as one linear pattern.

Sources: ISO 8601; CLDR date formats (medium and long) of the languages listed.
"""

# Patterns stay whole on their line and hold the signs of other scripts.
from __future__ import annotations

from typing import Final

#: Month names and their short forms in en, de, fr, es, pt, it, nl, pl, sv (CLDR).
MONTHS: Final = (
    "jan(?:uary|uar|vier|uari)?|feb(?:ruary|ruar|ruari|rero|braio)?|f[eé]v(?:rier|ereiro)?|"
    "mar(?:ch|s|zo|[cç]o|ca)?|m[aä]rz|maart|apr(?:il|ile)?|avr(?:il)?|abr(?:il)?|may|mai[o]?|mayo|"
    "maj[a]?|mei|magg?(?:io)?|jun[ei]?|juni[o]?|juin|junho|giugno|jul[iy]?|juli[o]?|juil(?:let)?|"
    "julho|luglio|aug(?:ust|ustus|usti)?|ao[uû]t|ago(?:sto)?|sep(?:t|tember|tembre|tiembre)?|"
    "set(?:embro|tembre)?|o[ck]t(?:ober|obre|ubre)?|out(?:ubro)?|ott(?:obre)?|nov(?:ember|embre|"
    "iembre|embro)?|de[cz](?:ember|embre|embro|iembre)?|d[eé]c(?:embre)?|dic(?:iembre|embre)?|"
    "stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|wrze[sś]nia|pa[zź]dziernika|"
    "listopada|grudnia"
)

#: A date. Letters O stand for zeros where text went through OCR.
DATE: Final = (
    r"(?:[12O][\dO]{3}\s?[\-/.年년]\s?[\dO]{1,2}\s?[\-/.月월]\s?[\dO]{1,2}\s?[日일]?"
    r"|[\dO]{1,2}\s?[\-/.]\s?[\dO]{1,2}\s?[\-/.]\s?(?:[12O][\dO]{3}|[\dO]{2})"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.|er|º)?\s(?:of\s|de\s)?(?:{MONTHS})\.?,?\s(?:de\s|del\s)?\d{{4}}"
    rf"|(?:{MONTHS})\.?\s\d{{1,2}}(?:st|nd|rd|th)?,?\s\d{{4}}"
    rf"|\d{{1,2}}-(?:{MONTHS})-\d{{2,4}}|(?:19|20)\d{{6}}|(?:19|20)\d\d年)"
)
