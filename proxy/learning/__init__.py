"""Learning: pairs of question and answer, and a local model that is fine-tuned on them."""
