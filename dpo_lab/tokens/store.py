"""The token store: each prompt once, each response once, items as lists of responses. No text after this point."""

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_lab.tokens.sequences import Sequences

Ids = NDArray[np.int32]
TOKENS = ("prompt_ids", "prompt_ends", "response_ids", "response_ends", "response_prompt", "item_responses", "item_ends")
LABELS = ("scores", "preference", "desirable")
DRAWN = "drawn_logps"
SIDES = {"score_chosen": 0, "score_rejected": 1}
"""The scores of a pair by the names that a loss reads them under."""


@dataclass(frozen=True)
class TokenStore:
    """Token ids of prompts, of responses to them, and items: what a loss takes one value of, a list of responses.

    A preference pair is an item of two responses, the chosen one first; a labelled answer is one of one; a ranked list is one of
    as many as it ranks. The response is the unit: one that stands in several items is stored, and scored by the reference, once.
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
    item_responses: NDArray[np.int64]
    """(entries,) the responses of item 0, then of item 1, ..."""
    item_ends: NDArray[np.int64]
    """(items,) where each item ends in `item_responses`."""
    scores: NDArray[np.float32]
    """(entries,) score of each response in its item, higher is better. Labels are NaN where unknown, and no part of the
    fingerprint: no forward pass reads them."""
    preference: NDArray[np.float32]
    """(items,) probability that the first response of a pair is the better one."""
    desirable: NDArray[np.float32]
    """(items,) 1 for a labelled answer that is desirable, 0 for one that is not."""
    drawn_logps: NDArray[np.float32] | None = None
    """(tokens of all responses,) log-probability of each token under the model that drew it, NaN for responses that were not
    drawn or were cut afterwards; None where there are only such. No part of the fingerprint: ids do not depend on it."""

    @property
    def num_prompts(self) -> int:
        """How many distinct prompts there are."""
        return len(self.prompt_ends)

    @property
    def num_responses(self) -> int:
        """How many distinct (prompt, response) there are."""
        return len(self.response_ends)

    @property
    def num_items(self) -> int:
        """How many items there are."""
        return len(self.item_ends)

    @property
    def num_pairs(self) -> int:
        """How many preference pairs there are."""
        return len(self.pairs)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """(pairs, 2) chosen and rejected response of each pair.

        Raises:
            ValueError: if an item is not a pair.
        """
        if self.num_items and self._width != 2:
            raise ValueError("some items of this store are not pairs: their number of responses is not two")
        return self.item_responses.reshape(-1, 2)

    @cached_property
    def first_and_last(self) -> NDArray[np.int64]:
        """(items, 2) first and last response of each item: of a pair both, of a ranked list the best and the worst."""
        return self.item_responses[np.stack([self.item_ends - self.item_lengths, self.item_ends - 1], axis=1)]

    @cached_property
    def _width(self) -> int | None:
        """How many responses every item has; None where they differ."""
        widths = np.unique(self.item_lengths)
        return int(widths[0]) if len(widths) == 1 else None

    @cached_property
    def item_lengths(self) -> NDArray[np.int64]:
        """(items,) number of responses of every item."""
        return np.diff(self.item_ends, prepend=0)

    @cached_property
    def item_prompts(self) -> NDArray[np.int64]:
        """(items,) which prompt each item answers."""
        prompts: NDArray[np.int64] = self.response_prompt[self.item_responses[self.item_ends - self.item_lengths]]
        return prompts

    def entries(self, items: Sequence[int]) -> NDArray[np.int64]:
        """Return where the responses of some items stand in `item_responses`, item after item.

        >>> builder = StoreBuilder()
        >>> for count in (2, 1, 3):
        ...     builder.add_item([builder.add_response([1], [5 + number]) for number in range(count)])
        >>> builder.build().entries([2, 0]).tolist()
        [3, 4, 5, 0, 1]
        """
        chosen = np.asarray(items, dtype=np.int64)
        if self._width is not None:  # of pairs: planning asks this for every item that it adds to a micro-batch
            return (chosen[:, None] * self._width + np.arange(self._width)).ravel()
        lengths = self.item_lengths[chosen]
        before = np.cumsum(lengths) - lengths
        return np.repeat(self.item_ends[chosen] - lengths - before, lengths) + np.arange(lengths.sum())

    def responses_of(self, items: Sequence[int]) -> NDArray[np.int64]:
        """Return the responses of some items, item after item; one that stands in several of them comes several times."""
        return self.item_responses[self.entries(items)]

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
        """Return a digest of every token id, of which are response tokens, and of the items; of nothing else."""
        digest = hashlib.sha256(b"token store 2")
        for name in TOKENS:
            values = getattr(self, name)
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).ravel().data)
        return digest.hexdigest()

    def label(self, name: str) -> NDArray[np.float32]:
        """Return one of `LABELS`, or of the two scores of every pair."""
        if name in SIDES:
            return self.scores[self.entries(range(self.num_pairs))].reshape(-1, 2)[:, SIDES[name]]
        values: NDArray[np.float32] = getattr(self, name)
        return values

    def label_digest(self, name: str) -> str:
        """Return a digest of one kind of label."""
        return hashlib.sha256(np.ascontiguousarray(self.label(name)).tobytes()).hexdigest()

    def drawn_digest(self) -> str:
        """Return a digest of the log-probabilities that were drawn, empty if there are none."""
        drawn = self.drawn_logps
        return "" if drawn is None else hashlib.sha256(np.ascontiguousarray(drawn).tobytes()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write one .npy file per array."""
        for name in (*TOKENS, *LABELS, *([] if self.drawn_logps is None else [DRAWN])):
            np.save(directory / f"{name}.npy", getattr(self, name), allow_pickle=False)
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

        drawn = [DRAWN] if (directory / f"{DRAWN}.npy").exists() else []
        return cls(**{name: mapped(name) for name in (*TOKENS, *LABELS, *drawn)})


class StoreBuilder:
    """Collects prompts, responses and items into a TokenStore; equal prompts and responses are stored once.

    Keeps four bytes a token and a digest for each prompt and response: no text, no list of integers.
    """

    def __init__(self) -> None:
        self._prompts, self._responses = Sequences(), Sequences()
        self._owners = array("q")
        self._items, self._item_ends = array("q"), array("q")
        self._labels = {name: array("f") for name in LABELS}
        self._drawn: dict[int, Sequence[float]] = {}

    def add_response(self, prompt: Sequence[int], response: Sequence[int], logps: Sequence[float] = ()) -> int:
        """Return the index of a response to a prompt, new or known.

        Args:
            logps: what the model that drew it said of each of its tokens; of equal responses the first one's stay.

        Raises:
            ValueError: if either is empty: a response is predicted from the token before it.
        """
        if not prompt or not response:
            raise ValueError(f"a prompt of {len(prompt)} and a response of {len(response)} tokens; both need at least one")
        owner = self._prompts.add(prompt)
        index = self._responses.add(response, owner)
        if index == len(self._owners):
            self._owners.append(owner)
        if logps:
            self._drawn.setdefault(index, logps)
        return index

    def add_item(
        self,
        responses: Sequence[int],
        *,
        scores: Sequence[float | None] = (),
        preference: float | None = None,
        desirable: float | None = None,
    ) -> None:
        """Add an item of some responses, with what the data says of it (None: unknown).

        Args:
            responses: as `add_response` gave them; of a pair the chosen one first, of a ranked list the best one.
            scores: one for each response, or none at all.
        """
        if not responses or len(scores) not in (0, len(responses)):
            raise ValueError(f"an item of {len(responses)} responses and {len(scores)} scores")
        self._items.extend(responses)
        self._item_ends.append(len(self._items))
        self._labels["scores"].extend(map(known, scores or [None] * len(responses)))
        self._labels["preference"].append(known(preference))
        self._labels["desirable"].append(known(desirable))

    def build(self) -> TokenStore:
        """Return the store."""
        return TokenStore(
            prompt_ids=np.asarray(self._prompts.ids, dtype=np.int32),
            prompt_ends=np.asarray(self._prompts.ends, dtype=np.int64),
            response_ids=np.asarray(self._responses.ids, dtype=np.int32),
            response_ends=np.asarray(self._responses.ends, dtype=np.int64),
            response_prompt=np.asarray(self._owners, dtype=np.int64),
            item_responses=np.asarray(self._items, dtype=np.int64),
            item_ends=np.asarray(self._item_ends, dtype=np.int64),
            **{name: np.asarray(values, dtype=np.float32) for name, values in self._labels.items()},
            drawn_logps=self._drawn_logps(),
        )

    def _drawn_logps(self) -> NDArray[np.float32] | None:
        if not self._drawn:
            return None
        ends = self._responses.ends
        logps = np.full(len(self._responses.ids), np.nan, dtype=np.float32)
        for index, of_response in self._drawn.items():
            logps[ends[index - 1] if index else 0 : ends[index]] = of_response
        return logps


def known(value: float | None) -> float:
    """Return a label as it is stored: NaN for None."""
    return float("nan") if value is None else value
