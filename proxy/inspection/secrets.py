"""Keys, tokens and passwords, by the published form of each; linear patterns only (RE2)."""

# Patterns stay whole on their line.
# ruff: noqa: E501
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from proxy.inspection.entities import category_of
from proxy.inspection.linear import LinearSet, compile_linear
from proxy.inspection.shipped import read_yaml
from proxy.types import Finding, Segment


@dataclass(frozen=True, slots=True)
class SecretPattern:
    """One form. ``source`` is where it is published; group 1, if there is one, is the secret."""

    entity: str
    pattern: str
    score: float
    source: str


_GITHUB = "https://docs.github.com/authentication/keeping-your-account-and-data-secure"
_RFC_PEM = "RFC 7468, section 10"

PATTERNS: Final = (
    SecretPattern(
        "PRIVATE_KEY",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
        1.0,
        _RFC_PEM,
    ),
    SecretPattern(
        "CLOUD_CREDENTIAL",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
        0.95,
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html",
    ),
    SecretPattern("ACCESS_TOKEN", r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b", 0.99, _GITHUB),
    SecretPattern("ACCESS_TOKEN", r"\bgithub_pat_[A-Za-z0-9_]{60,255}\b", 0.99, _GITHUB),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\bgl(?:pat|dt|rt|ptt|ft|imt|soat|agent)-[A-Za-z0-9_\-]{20,255}",
        0.95,
        "https://docs.gitlab.com/security/tokens/#token-prefixes",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,255}",
        0.95,
        "https://docs.slack.dev/authentication/tokens",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{20,255}",
        0.95,
        "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
    ),
    SecretPattern(
        "API_KEY",
        r"\bsk-(?:proj-|svcacct-|admin-|ant-(?:api|admin)\d\d-)?[A-Za-z0-9_\-]{20,255}",
        0.95,
        "https://platform.openai.com/docs/api-reference/authentication",
    ),
    SecretPattern(
        "API_KEY",
        r"\bAIza[0-9A-Za-z_\-]{35}",
        0.95,
        "https://cloud.google.com/docs/authentication/api-keys",
    ),
    SecretPattern(
        "API_KEY",
        r"\b[rs]k_(?:live|test)_[0-9A-Za-z]{16,255}\b",
        0.95,
        "https://docs.stripe.com/keys",
    ),
    SecretPattern(
        "API_KEY",
        r"\bSG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}",
        0.95,
        "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
    ),
    SecretPattern(
        "API_KEY", r"\b(?:SK|AC)[0-9a-z]{32}\b", 0.8, "https://www.twilio.com/docs/iam/api-keys"
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\b(?:npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_\-]{50,255})",
        0.95,
        "https://docs.npmjs.com/about-access-tokens, https://pypi.org/help/#apitoken",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\b(?:hf_[A-Za-z]{30,40}|dop_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})\b",
        0.95,
        "https://huggingface.co/docs/hub/security-tokens and the issuers' own references",
    ),
    SecretPattern(
        "JWT", r"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*", 0.95, "RFC 7519"
    ),
    SecretPattern(
        "CONNECTION_STRING",
        r"\b[a-zA-Z][a-zA-Z0-9+.\-]{1,24}://[^\s:@/]{0,128}:([^\s@/]{1,256})@[^\s/]+",
        0.9,
        "RFC 3986, section 3.2.1",
    ),
    SecretPattern(
        "CONNECTION_STRING",
        r"(?i)\b(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/=]{20,128})",
        0.95,
        "https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\b(?:pass(?:word|wd|phrase)?|pwd|kennwort|passwort|contrase[nñ]a|mot de passe)"
        r"(?:\s+(?:is|ist|es|est)\s+|\s*(?:[:=]|=>|:=)\s*)[\"'`]?([^\s\"'`,;<>]{4,128})",
        0.7,
        "key = value, as configuration files and people write it",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"(?i)\b(?:authorization\s*[:=]\s*)?(?:bearer|basic)\s+([A-Za-z0-9+/_\-.=]{16,1000})",
        0.8,
        "RFC 6750, section 2.1; RFC 7617",
    ),
    SecretPattern(
        "ACCESS_TOKEN", r"\bAP[\dABCDEF][A-Za-z0-9]{10,100}", 0.5, "detect-secrets, artifactory"
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\b\d{8,10}:[A-Za-z0-9_\-]{34,36}\b",
        0.9,
        "https://core.telegram.org/bots/api",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"\b[MNO][A-Za-z0-9_\-]{23,25}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,38}",
        0.9,
        "https://discord.com/developers/docs/reference#authentication",
    ),
    SecretPattern(
        "API_KEY",
        r"\b(?:ntn_[A-Za-z0-9]{40,60}|tvly-[A-Za-z0-9\-]{24,60}|sgp_[A-Za-z0-9_]{40,80}|sq0[a-z]{3}-[A-Za-z0-9_\-]{22,50}|"
        r"oy2[a-z0-9]{43}|live_\d{6,10}_[A-Za-z0-9]{20,40}|api_org_[A-Za-z0-9]{34}|fm[12][ar]?_[A-Za-z0-9+/=]{60,500})",
        0.9,
        "gitleaks and detect-secrets rule sets, issuers' own references",
    ),
    SecretPattern(
        "PASSWORD",
        r"\$(?:1|2[abxy]|5|6|7|8|9|y|apr1|krb5\w+)\$[A-Za-z0-9./$=,:@*\-]{20,400}",
        0.8,
        "crypt(5)",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)[a-z0-9_\-]*(?:pass(?:word|wd|phrase)?|pwd|secret)[\"']?\s*(?:=>|:=|={1,3}|!=|:|value=)\s*(?:[\"'`]|\b)([^\s\"'`,;<>(){}]{4,128})",
        0.6,
        "key = value, as configuration files write it",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bNetworkCredential\([^,()\n]{1,80},\s*\"([^\"\n]{4,128})\"",
        0.8,
        "learn.microsoft.com, System.Net.NetworkCredential",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bpassword (?:for|of) [^\n]{1,60} is [\"']([^\"'\n]{3,64})[\"']",
        0.6,
        "as people write it",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bcurl\s[^\n]{0,400}?(?:-u|--user)[ =]?[\"']?([^\s:\"']{1,64}:[^\s\"']{3,128})",
        0.8,
        "https://curl.se/docs/manpage.html#-u",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bpsexec\S*\s[^\n]{0,200}?-p\s+([^\s\"']{3,64})",
        0.8,
        "learn.microsoft.com, Sysinternals PsExec",
    ),
    SecretPattern(
        "API_KEY",
        r"(?i)[a-z0-9_.\-]{0,40}(?:token|api_?key|login|_key|_pat|__com)[\"']?\s*(?:[:=?]{1,3}|=>)\s*[\"']?"
        r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,64}|[0-9a-f]{8}:[0-9a-f]{8})\b",
        0.7,
        "key = value; RFC 9562",
    ),
    SecretPattern(
        "API_KEY",
        r"\b(?:[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}|[A-Za-z0-9]{52}JQQJ9[A-Z0-9]{3}ACA[A-Za-z0-9]{21})",
        0.95,
        "learn.microsoft.com, format of Azure DevOps tokens and of Azure's identifiable keys",
    ),
    SecretPattern("API_KEY", r"\b\d{1,3}-[A-Za-z0-9]{64}\b", 0.7, "truenas.com, API keys"),
    SecretPattern(
        "ACCESS_TOKEN",
        r"(?i)okta[^\n]{0,60}(?:\n[^\n]{0,40})?\b(00[a-z0-9_\-]{38,40})",
        0.8,
        "developer.okta.com, API tokens",
    ),
    SecretPattern(
        "API_KEY",
        r"(?i)(?:\b|_|-)(?:api|access|secret|auth|private|client|account|license|app)[_\-. ]{0,2}(?:key|token|secret|id|pass)"
        r"[\"']?\s{0,3}(?::=|[:=]|=>|,|\s)\s{0,3}[\"'`]([A-Za-z0-9+/_\-.=~!@]{14,256})[\"'`]",
        0.65,
        "key = quoted value, as configuration files and commands write it",
    ),
    SecretPattern(
        "API_KEY",
        r"(?i)(?:api|access|secret|auth)[_\-]?(?:key|token|secret)[\"']?(?:\s{1,3}|\s?[:=]{1,2}\s?)([a-f0-9]{32,128}|[a-z0-9]{40,128})\b",
        0.65,
        "key = value, as commands write it",
    ),
    SecretPattern(
        "API_KEY",
        r"(?i)\b[a-z0-9]{3,24}[_\-]key[\"']?\s{0,2}(?:[:=]{1,2}|=>)\s{0,2}[\"']([a-z]{20,64}|[a-f0-9]{20,64})[\"']",
        0.6,
        "key = quoted value, as configuration files write it",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)(?:password|passwort|api key|secret|token|login)\b[^\n]{0,60}[\s,:'\"(]{1,8}([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})\b",
        0.6,
        "as installers and configuration files print one",
    ),
    SecretPattern(
        "ACCESS_TOKEN",
        r"(?i)\bauthorization[\"']?\s?[:=]\s?[\"']?(?:basic|bearer|token|digest|apikey|sha256~)?\s?([A-Za-z0-9+/_\-.=~@#]{8,1000})",
        0.7,
        "RFC 9110, section 11.6.2",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bcurl\s(?:[^\n]|\\\n){0,600}?\s(?:-u|--user)(?:\s{1,3}|=)?[\"']?([^\s:\"']{1,64}:[^\s\"']{0,128})",
        0.8,
        "https://curl.se/docs/manpage.html#-u",
    ),
    SecretPattern(
        "PASSWORD",
        r"(?i)\bidentified\s(?:with\s\S{1,40}\s)?by\s[\"']([^\"'\n]{3,128})[\"']",
        0.8,
        "SQL, CREATE USER",
    ),
    SecretPattern(
        "API_KEY",
        r"(?i)\baccess_?id[\"']?\s{0,3}(?:[:=]|=>)\s{0,3}[\"']?([A-Za-z0-9]{14,64})\b",
        0.6,
        "key = value, as configuration files write it",
    ),
    SecretPattern(
        "ACCESS_TOKEN", r"\bSSWS [A-Za-z0-9_\-]{30,60}", 0.9, "developer.okta.com, API tokens"
    ),
)

#: Names of configuration keys whose value is a secret if it looks random.
_KEY_VALUE: Final = compile_linear(
    r"(?i)(?:api|access|auth|client|secret|private|encryption|signing|token|key|credential|"
    r"webhook)[a-z0-9_.\-]{0,40}[\"']?\s*(?:[:=]|=>|:=)\s*[\"'`]?([A-Za-z0-9+/_\-.=]{16,256})"
)

#: Any name that is given a quoted value; the value must look random by itself.
_NAMED_VALUE: Final = compile_linear(
    r"\b[A-Za-z][\w.\-]{1,60}[\"'\])]{0,2}\s{0,3}(?:[:=]{1,2}|=>|,|\s)\s{0,3}[\"'`]([A-Za-z0-9_+/\-]{20,128}={0,2})[\"'`]"
)
#: As `_MIN_ENTROPY_BITS`, where nothing but the value speaks for it.
_MIN_LONE_ENTROPY_BITS: Final = 3.6

#: Bits a character above which a value of 16 and more characters looks random: English words stay
#: below 3.3, random hex reaches 3.4 and random base64 4 at that length.
_MIN_ENTROPY_BITS: Final = 3.35


#: (pattern, bits a character above which its value is a secret, score)
_NAMED: Final = (
    (_KEY_VALUE, _MIN_ENTROPY_BITS, 0.75),
    (_NAMED_VALUE, _MIN_LONE_ENTROPY_BITS, 0.5),
)


class SecretsDetector:
    """Finds credentials of known form, and random values beside a telling key."""

    name = "secrets"
    version = "1"

    def __init__(self) -> None:
        self._patterns = LinearSet([(pattern, pattern.pattern) for pattern in PATTERNS])

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find secrets; see `Detector`."""
        return tuple(
            finding
            for segment in segments
            if segment.text is not None
            for finding in self._in_text(segment.index, segment.text)
        )

    def _in_text(self, index: int, text: str) -> Iterator[Finding]:
        for pattern, match in self._patterns.finditer(text):
            span = match.span(1 if match.re.groups else 0)
            yield _finding(pattern.entity, index, span, pattern.score)
        for named, min_bits, score in _NAMED:
            for match in named.finditer(text):
                if _looks_random(match[1], min_bits):
                    yield _finding("HIGH_ENTROPY_SECRET", index, match.span(1), score)
        for match in token_forms().finditer(text):
            yield _finding("ACCESS_TOKEN", index, match.span(), 0.95)


def _finding(entity: str, index: int, span: tuple[int, int], score: float) -> Finding:
    return Finding(entity, category_of(entity), index, *span, score, SecretsDetector.name)


@cache
def token_forms() -> Any:
    """The forms of ``data/token_forms.yaml``, as one pattern."""
    forms = read_yaml("token_forms.yaml")
    return compile_linear("|".join(f"(?:{one})" for many in forms.values() for one in many))


def _looks_random(value: str, min_bits: float) -> bool:
    """Whether the characters of ``value`` are spread as those of a random string are."""
    counts = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    has_digit = any(char.isdigit() for char in value)
    has_letter = any(char.isalpha() for char in value)
    return bits >= min_bits and has_digit and has_letter
