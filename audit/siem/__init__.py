"""A copy of the ledger for a SIEM: read from the ledger itself, out of every request's way."""
