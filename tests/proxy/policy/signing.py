"""Persons with keys, and policies that they sign, for tests."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import public_bytes, verifier_key
from proxy.policy.signature import signature_path, with_signature
from proxy.policy.source import FilePolicySource


class Persons:
    """Some persons whose keys are in a trust folder."""

    def __init__(self, trust: Path, *names: str) -> None:
        trust.mkdir(parents=True, exist_ok=True)
        self.trust = trust
        self.keys = {name: Ed25519PrivateKey.generate() for name in names}
        for name, key in self.keys.items():
            (trust / f"{name}.pub").write_text(f"{verifier_key(name, public_bytes(key))}\n")

    def sign(self, path: Path, *names: str) -> Path:
        """Sign the policy at ``path`` as each of ``names``; gives the signature file."""
        policy = FilePolicySource(path).load()
        file = signature_path(path, policy.digest)
        for name in names:
            file.write_bytes(with_signature(policy, path, name, self.keys[name]))
        return file
