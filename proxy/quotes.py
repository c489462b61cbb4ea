"""What a text is known by when it is quoted: the whole of it, and the telling runs of its words.

A pinned answer is carried on whole, trimmed, in a code fence or inside JSON; some run of its words
survives all of these. What is the same for everyone (small words, the phrases of every assistant,
what the request itself brought along) tells nothing and must not pin harmless talk. Pure: nothing
here is stored, and a trace is text until the pin store has made a keyed digest of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final

from proxy.inspection.language import small_words

#: A shorter message ("yes", "thank you") carries too little to be told from everyone else's.
MIN_CHARS: Final = 16

#: Words of a run. Measured with `python -m bench.pins`: fewer pin harmless talk.
RUN_WORDS: Final = 8

#: Words of a run that must tell something.
MIN_TELLING: Final = 3

#: At least every so many words a run of an answer is remembered, so that any quotation of
#: ``RUN_WORDS + STRIDE - 1`` words holds one.
STRIDE: Final = 3

#: Most runs remembered of one exchange; of a longer answer they stand further apart.
MAX_RUNS: Final = 400

#: Languages whose small words tell nothing.
_LANGUAGES: Final = ("en", "de", "fr", "es", "it", "nl")

#: Words of every assistant's talk, in English and German.
_TALK: Final = frozenset(
    """
    able additional advice affect ai answer anything apologize appreciate ask assist assistance
    assistant available aware based best certain certainly clarify clear comfortable concern
    concerns confusion consider consult contact context course create dear described details
    directly discuss don ensure example explain feel find follow following form forward free general
    glad good great guidance happy hear help helpful hesitate hope important include including
    inconvenience information interested issue issues kind know language learn let like ll looking
    mean message model need note offer open option options order personal place point possible
    prefer problem process professional provide provided providing question questions re ready
    reach receive recommend regarding reply request require resources respond response review right
    sensitive service share similar situation solution sorry sound specific start step steps
    suggest support sure task tell text thank thanks thing things time topic trained try
    understand understanding use useful ve want way welcome willing wish word work write yes
    antwort anliegen anfrage beispiel bitte brauchen danke dank einfach entschuldigung falls frage
    fragen freue freuen geben gerne hallo helfen hilfe hilft hinweis hoffe information
    informationen klar leid mitteilen nachricht nennen sagen schreiben sicher stehe stelle
    unterstützen verfügung verstehe vielen weitere weiteren wichtig wissen wünsche
    """.split()
)

#: What no reader sees, and other programs put in or take out.
_UNSEEN: Final = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")

#: Escapes of JSON in a text that is not read as JSON.
_ESCAPED_CHAR: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_BLANK: Final = re.compile(r"\\+[nrt]")

_WORD: Final = re.compile(r"[^\W_]+")


def whole_trace(text: str) -> str | None:
    """``text`` as a whole, or None where it is too short to tell; case and blanks do not matter."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded if len(folded) >= MIN_CHARS else None


def run_traces(texts: Iterable[str]) -> Iterator[str]:
    """Every telling run of words in ``texts``, which are read on from one to the next."""
    return (run for _, run in _runs(_words(texts)))


def kept_run_traces(
    texts: Iterable[str], harmless: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """The runs by which ``texts`` are remembered: one every `STRIDE` words, at most `MAX_RUNS`.

    Args:
        texts: what was said, in order.
        harmless: runs that stand in other requests too, and are inspected there.
    """
    words = _words(texts)
    stride = max(STRIDE, -(-len(words) // MAX_RUNS))
    kept: list[str] = []
    last = -stride
    for start, run in _runs(words):
        if start - last >= stride and run not in harmless:
            kept.append(run)
            last = start
    return tuple(kept)


def _runs(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Where a telling run starts, and the run. A blank before it tells it from a whole text."""
    telling = [word if _tells(word) else None for word in words]
    for start in range(len(words) - RUN_WORDS + 1):
        end = start + RUN_WORDS
        if len(set(telling[start:end]) - {None}) >= MIN_TELLING:
            yield start, " " + " ".join(words[start:end])


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in _WORD.findall(_fold(text))]


def _fold(text: str) -> str:
    """A text with what is written in several ways written in one."""
    if "\\" in text:
        text = _ESCAPED_CHAR.sub(lambda match: chr(int(match[1], 16)), text)
        text = _ESCAPED_BLANK.sub(" ", text)
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold()


def _tells(word: str) -> bool:
    return len(word) > 2 and word not in _common()


@cache
def _common() -> frozenset[str]:
    return _TALK.union(*map(small_words, _LANGUAGES))
