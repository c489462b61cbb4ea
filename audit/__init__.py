"""The ledger of Ringfence: written before anything leaves, and checked without us.

The package stands alone: it imports nothing of `proxy`, and its records live in a data folder that
its user names, never in the source tree. `docs/record-format.md` describes the ledger byte by byte.
"""
