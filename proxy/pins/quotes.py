"""What a text is known by when it is quoted: the whole of it, and the telling runs of its words.

A pinned answer is carried on whole, trimmed, in a code fence or inside JSON; some run of its words
survives all of these. What is the same for everyone (small words, the phrases of every assistant,
what the request itself brought along) tells nothing and must not pin harmless talk. Pure: nothing
here is stored, and a trace is text until the pin store has made a keyed digest of it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
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
    stride = _stride(len(words))
    kept: list[str] = []
    last = -stride
    for start, run in _runs(words):
        if start - last >= stride and run not in harmless:
            kept.append(run)
            last = start
    return tuple(kept)


class Growing:
    """By what the texts of an answer are known while it is made, at each moment of it.

    Whatever has been said is known as well as if the answer ended there: by a run every `STRIDE`
    words (further apart beyond `MAX_RUNS` of them, so that their number grows with the logarithm
    of the length from there on), and a text without one as a whole. What was looked at is not
    looked at again, but for the last words, which the next piece may change.
    """

    def __init__(self, before: Iterable[str], harmless: frozenset[str]) -> None:
        """``before`` are the texts that the answer is read on from; ``harmless`` as above."""
        self._texts = [_Text((), text) for text in before]  # in the order in which they are read on
        self._num_before = len(self._texts)
        self._at: dict[Hashable, _Text] = {}
        self._news: dict[_Text, None] = dict.fromkeys(self._texts)
        self._harmless = harmless
        self._words: list[str] = []
        self._kept: list[int] = []  # where the runs start

    @property
    def texts(self) -> tuple[str, ...]:
        """All that was said, in order."""
        return tuple(text.whole() for text in self._texts[self._num_before :])

    def say(self, order: tuple[int, int], place: Hashable, piece: str) -> None:
        """Add ``piece`` to the text at ``place``; ``order``: its choice, its place in that."""
        text = self._at.get((order, place))
        if text is None:
            text = self._at[order, place] = _Text(order)
            insort(self._texts, text, key=lambda one: one.order)
        text.add(piece)
        self._news[text] = None

    def fresh(self) -> list[str]:
        """The traces of all that was said, but for those that were told before."""
        news, self._news = self._news, {}
        if not news:
            return []
        told = self._runs_from(max(0, self._read(news) - RUN_WORDS + 1))
        for text in news:
            place = bisect_left(self._kept, text.start)
            has_run = place < len(self._kept) and self._kept[place] + RUN_WORDS <= text.end
            trace = None if has_run else whole_trace(text.whole())
            told += [] if trace is None else [trace]
        return told

    def _read(self, news: Iterable[_Text]) -> int:
        """Read the words of what is new; where the first stands that may have changed."""
        number = min(map(self._texts.index, news))
        first = self._texts[number]
        first.start = self._texts[number - 1].end if number else 0
        changed = first.start + first.num_whole
        del self._words[changed:]
        for text in self._texts[number:]:
            text.settle()
            text.start = self._texts[number - 1].end if number else 0
            self._words += text.words(from_word=max(0, changed - text.start))
            text.end = len(self._words)
            number += 1
        return changed

    def _runs_from(self, first: int) -> list[str]:
        """Keep runs anew from the word ``first`` on."""
        del self._kept[bisect_left(self._kept, first) :]
        stride, told = _stride(len(self._words)), list[str]()
        last = self._kept[-1] if self._kept else -stride
        for start, run in _runs(self._words[first:]):
            if first + start - last >= stride and run not in self._harmless:
                told.append(run)
                last = first + start
                self._kept.append(last)
        return told


class _Text:
    """A text that grows, and its words so far.

    ``start`` and ``end`` are where its words stand among those of all texts.
    """

    def __init__(self, order: tuple[int, ...], text: str = "") -> None:
        self.order = order
        self.start = self.end = 0
        self._pieces = [text]
        self._num_settled = 0  # pieces whose words are known
        self._rest = ""  # what follows the last blank of these; the next piece may change it
        self._whole_words: list[str] = []
        self._rest_words: list[str] = []

    @property
    def num_whole(self) -> int:
        """How many words nothing changes any more."""
        return len(self._whole_words)

    def words(self, from_word: int) -> list[str]:
        """The words of what is settled, without the first ones."""
        return (
            self._whole_words[from_word:]
            + self._rest_words[max(0, from_word - len(self._whole_words)) :]
        )

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    def settle(self) -> None:
        """Read the words of what is new."""
        text = self._rest + "".join(self._pieces[self._num_settled :])
        self._num_settled = len(self._pieces)
        # No sign is read together with one beyond a blank or a line's end: no word, no escape.
        cut = max(text.rfind(" "), text.rfind("\n")) + 1
        self._whole_words += _words([text[:cut]])
        self._rest, self._rest_words = text[cut:], _words([text[cut:]])

    def whole(self) -> str:
        return "".join(self._pieces)


def _stride(num_words: int) -> int:
    """How far the runs kept of so many words stand apart."""
    return max(STRIDE, -(-num_words // MAX_RUNS))


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
