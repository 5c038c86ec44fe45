"""The token store: each prompt once, each response once, pairs as indices. No text after this point."""

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
ARRAYS = ("prompt_ids", "prompt_ends", "response_ids", "response_ends", "response_prompt", "pairs")
COLUMNS = ("score_chosen", "score_rejected", "preference")


@dataclass(frozen=True)
class TokenStore:
    """Token ids of prompts, of responses to them, and preference pairs as indices of responses.

    The response is the unit: one that stands in several pairs is stored, and scored by the reference, once.
    """

    prompt_ids: Ids
    """All prompts' tokens, one after the other."""
    prompt_ends: NDArray[np.int64]
    """(prompts,) where each prompt ends in `prompt_ids`."""
    response_ids: Ids
    """All responses' tokens, end token included unless truncated."""
    response_ends: NDArray[np.int64]
    """(responses,) where each response ends in `response_ids`."""
    response_prompt: NDArray[np.int64]
    """(responses,) which prompt each response answers."""
    pairs: NDArray[np.int64]
    """(pairs, 2) chosen and rejected response of each pair."""
    columns: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Per pair, NaN where unknown: scores and preference. Not part of the fingerprint: no forward pass reads them."""

    @property
    def num_prompts(self) -> int:
        """How many distinct prompts there are."""
        return len(self.prompt_ends)

    @property
    def num_responses(self) -> int:
        """How many distinct (prompt, response) there are."""
        return len(self.response_ends)

    @property
    def num_pairs(self) -> int:
        """How many preference pairs there are."""
        return len(self.pairs)

    def prompt(self, index: int) -> Ids:
        """Return the tokens of a prompt."""
        start = self.prompt_ends[index - 1] if index else 0
        return self.prompt_ids[start : self.prompt_ends[index]]

    def prompt_of(self, response: int) -> Ids:
        """Return the tokens of the prompt that a response answers."""
        return self.prompt(int(self.response_prompt[response]))

    def response(self, index: int) -> Ids:
        """Return the tokens of a response."""
        start = self.response_ends[index - 1] if index else 0
        return self.response_ids[start : self.response_ends[index]]

    @cached_property
    def prompt_lengths(self) -> NDArray[np.int64]:
        """(prompts,) number of tokens of every prompt."""
        return np.diff(self.prompt_ends, prepend=0)

    @cached_property
    def response_lengths(self) -> NDArray[np.int64]:
        """(responses,) number of tokens of every response."""
        return np.diff(self.response_ends, prepend=0)

    @cached_property
    def row_lengths(self) -> NDArray[np.int64]:
        """(responses,) tokens of prompt plus response."""
        return self.prompt_lengths[self.response_prompt] + self.response_lengths

    def fingerprint(self) -> str:
        """Return a digest of every token id, of which are response tokens, and of the pairs; of nothing else."""
        digest = hashlib.sha256(b"token store 1")
        for name, values in self._arrays().items():
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).ravel().data)
        return digest.hexdigest()

    def label_digest(self, name: str) -> str:
        """Return a digest of one column of labels."""
        return hashlib.sha256(np.ascontiguousarray(self.columns[name]).tobytes()).hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in ARRAYS}

    def save(self, directory: Path) -> None:
        """Write one .npy file per array."""
        for name, values in {**self._arrays(), **self.columns}.items():
            np.save(directory / f"{name}.npy", values, allow_pickle=False)
        (directory / "fingerprint.json").write_text(json.dumps({"fingerprint": self.fingerprint()}))

    @classmethod
    def open(cls, directory: Path) -> "TokenStore":
        """Return the store of a directory, memory-mapped."""

        def mapped(name: str) -> NDArray[Any]:
            path = directory / f"{name}.npy"
            try:
                array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:  # an empty array cannot be mapped
                array = np.load(path, allow_pickle=False)
            return array

        columns = {name: mapped(name) for name in COLUMNS if (directory / f"{name}.npy").exists()}
        return cls(**{name: mapped(name) for name in ARRAYS}, columns=columns)


class StoreBuilder:
    """Collects prompts, responses and pairs into a TokenStore; equal ones are stored once.

    Keeps four bytes a token and a digest for each prompt and response: no text, no list of integers.
    """

    def __init__(self) -> None:
        self._prompts, self._responses = Sequences(), Sequences()
        self._owners = array("q")
        self._pairs = array("q")
        self._columns = {name: array("f") for name in COLUMNS}

    def add_response(self, prompt: Sequence[int], response: Sequence[int]) -> int:
        """Return the index of a response to a prompt, new or known.

        Raises:
            ValueError: if either is empty: a response is predicted from the token before it.
        """
        if not prompt or not response:
            raise ValueError(f"a prompt of {len(prompt)} and a response of {len(response)} tokens; both need at least one")
        owner = self._prompts.add(prompt)
        index = self._responses.add(response, owner)
        if index == len(self._owners):
            self._owners.append(owner)
        return index

    def add_pair(self, chosen: int, rejected: int, **columns: float | None) -> None:
        """Add a pair of response indices with its scores and preference (None: unknown)."""
        self._pairs.extend((chosen, rejected))
        for name, values in self._columns.items():
            value = columns.get(name)
            values.append(float("nan") if value is None else value)

    def build(self) -> TokenStore:
        """Return the store."""
        return TokenStore(
            prompt_ids=np.asarray(self._prompts.ids, dtype=np.int32),
            prompt_ends=np.asarray(self._prompts.ends, dtype=np.int64),
            response_ids=np.asarray(self._responses.ids, dtype=np.int32),
            response_ends=np.asarray(self._responses.ends, dtype=np.int64),
            response_prompt=np.asarray(self._owners, dtype=np.int64),
            pairs=np.asarray(self._pairs, dtype=np.int64).reshape(-1, 2),
            columns={name: np.asarray(values, dtype=np.float32) for name, values in self._columns.items()},
        )


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
