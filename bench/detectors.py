"""What is compared: the product's inspection, and Presidio as it comes."""

from __future__ import annotations

from collections.abc import Callable

from proxy.inspection import offline
from proxy.inspection.entities import ENTITIES
from proxy.inspection.inline import inline_inspector
from proxy.inspection.presidio import MODELS
from proxy.types import Category, Coverage, Finding, Inspection, Origin, Role, Segment

Inspect = Callable[[str], Inspection]


def ours() -> Inspect:
    """The product's inspection, in this process."""
    inspect = inline_inspector(("en",))
    return lambda text: inspect({"messages": [{"role": "user", "content": text}]})


def stock() -> Inspect:
    """Presidio as it comes: its default registry and the small English spaCy model."""
    offline.cut()
    with offline.without_torch():
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    models = [{"lang_code": "en", "model_name": MODELS["en"][0]}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])

    def inspect(text: str) -> Inspection:
        found = engine.analyze(text, language="en")
        findings = tuple(
            Finding(
                entity := result.entity_type,
                ENTITIES.get(entity, Category.OTHER),
                0,
                result.start,
                result.end,
                result.score,
                "stock",
            )
            for result in found
            if result.entity_type in ENTITIES
        )
        segment = Segment(0, "messages[0].content", Role.USER, Origin.VALUE, text=text)
        return Inspection((segment,), findings, (), Coverage(1, 1, 0, 0), ("en",), (), 0.0)

    return inspect
