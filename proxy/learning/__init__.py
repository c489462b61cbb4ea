"""Learning: a local model that is fine-tuned on pairs of question and answer."""
