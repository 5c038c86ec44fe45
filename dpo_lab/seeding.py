"""Randomness: every draw comes from a generator derived from the run's seed and a name."""

import hashlib
import random


def derive(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on `seed` and the names alone.

    >>> derive(0, "shuffle", 1) == derive(0, "shuffle", 1)
    True
    >>> derive(0, "shuffle", 1) == derive(0, "shuffle", 2)
    False
    """
    digest = hashlib.sha256("\x1f".join(str(name) for name in (seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def random_for(seed: int, *names: object) -> random.Random:
    """Return Python's generator for a name, for draws without tensors."""
    return random.Random(derive(seed, *names))
