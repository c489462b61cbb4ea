"""Where a ledger stands: its lines, checkpoints and keys."""
