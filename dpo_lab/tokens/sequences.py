"""Distinct sequences of token ids, four bytes an id: how a token store collects prompts and responses."""

import hashlib
from array import array
from collections.abc import Sequence


class Sequences:
    """Distinct sequences of token ids, one after the other."""

    def __init__(self) -> None:
        self.ids, self.ends = array("i"), array("q")
        self._known: dict[bytes, int] = {}

    def add(self, ids: Sequence[int], owner: int = 0) -> int:
        """Return the index of a sequence that belongs to an owner, new or known."""
        numbers = array("i", ids)
        digest = hashlib.blake2b(numbers.tobytes(), digest_size=16, salt=owner.to_bytes(8)).digest()
        index = self._known.setdefault(digest, len(self.ends))
        if index == len(self.ends):
            self.ids.extend(numbers)
            self.ends.append(len(self.ids))
        return index
