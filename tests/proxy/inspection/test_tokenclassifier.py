"""A token-classification model of a folder: a real, tiny BERT whose decisions are known.

It has no layers: each word's own vector decides. So the test says what it must find, and the code
under test is the whole of what a large model would go through.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from proxy.errors import InspectionError
from proxy.inspection.inline import inline_inspector
from proxy.inspection.tokenclassifier import TokenClassificationDetector
from proxy.types import Origin, Role, Segment

pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ottilie", "brandt", "oslo", "the", "ship"]
TAGS = {"ottilie": 1, "brandt": 2, "oslo": 3}


def a_model(folder: Path, labels: dict[int, str], *, num_positions: int = 64) -> Path:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=num_positions,
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=num_positions,
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
    )
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        embeddings = model.bert.embeddings
        embeddings.LayerNorm.weight.fill_(1.0)
        for word, place in enumerate(WORDS):
            embeddings.word_embeddings.weight[word, TAGS.get(place, 0)] = 1.0
        for label in range(len(labels)):
            model.classifier.weight[label, label] = 9.0
    model.save_pretrained(folder)
    return folder


LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_model(tmp_path_factory.mktemp("model"), LABELS)


def found(detector: TokenClassificationDetector, text: str) -> set[tuple[str, str]]:
    segment = Segment(5, "x", Role.USER, Origin.VALUE, text=text)
    findings = detector.detect([segment])
    assert all(f.segment == 5 and 0.5 <= f.score <= 1 for f in findings)
    return {(f.entity, text[f.start : f.end]) for f in findings}


def test_joins_the_tokens_of_a_name(folder: Path) -> None:
    detector = TokenClassificationDetector(folder)
    text = "the ship of ottilie brandt , oslo"
    assert found(detector, text) == {("PERSON", "ottilie brandt"), ("LOCATION", "oslo")}
    assert found(detector, " \n") == set()


@pytest.mark.parametrize("place", [0, 40, 61, 62, 63, 200, 599])
def test_reads_all_of_a_text_longer_than_its_window(folder: Path, place: int) -> None:
    words = ["the"] * 600
    words[place] = "ottilie"
    assert found(TokenClassificationDetector(folder), " ".join(words)) == {("PERSON", "ottilie")}


def test_refuses_a_label_that_it_does_not_know(tmp_path: Path) -> None:
    a_model(tmp_path, {0: "O", 1: "B-SHOE_SIZE", 2: "I-PER", 3: "B-LOC"})
    with pytest.raises(InspectionError, match="SHOE_SIZE"):
        TokenClassificationDetector(tmp_path)


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InspectionError, match="no model"):
        TokenClassificationDetector(tmp_path)


def test_makes_a_language_readable_that_has_no_other_model(folder: Path) -> None:
    body = {
        "messages": [
            {"role": "user", "content": "Das Schiff gehört jetzt auch der ottilie aus dem Dorf."}
        ]
    }
    with_model = inline_inspector(("en", "sv", "de"), folder)(body)
    assert not with_model.unscannable
    assert "PERSON" in {f.entity for f in with_model.findings if f.detector != "presidio"}
    assert inline_inspector(("en",))(body).unscannable
