"""A model of a few thousand numbers with the real tokenizer, to train and serve in no time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from proxy.inspection import offline
from proxy.local.model import write_manifest
from tests.harness import model_dir

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

COLOURS = ("red", "green", "blue")


def make_model(folder: Path) -> Path:
    """Write an untrained model of four layers into ``folder``."""
    offline.cut()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        eos_token_id=2,
        initializer_range=0.1,
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in _TOKENIZER:
        shutil.copy(model_dir() / name, folder / name)
    write_manifest(folder, {"source": "a test"})
    return folder


def write_pairs(path: Path, num_pairs: int = 24) -> Path:
    """Write pairs whose answer is the colour in the question, of unequal lengths."""
    lines = []
    for n in range(num_pairs):
        colour = COLOURS[n % 3]
        text = f"Zwirble {n} is {colour}{', as always' * (n % 4)}. Which colour?"
        messages = [{"role": "user", "content": text}]
        lines.append(json.dumps({"id": f"p{n}", "messages": messages, "answer": colour}) + "\n")
    path.write_text("".join(lines))
    return path
