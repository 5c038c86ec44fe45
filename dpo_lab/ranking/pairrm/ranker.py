"""The ranker `pairrm`: which of two answers is better, by a small encoder (Jiang et al. 2023, arXiv:2306.02561)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.hub import HUB_ID, HubEntry
from dpo_lab.models.given import digests_of
from dpo_lab.models.hub import WEIGHTS, snapshot
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict
from dpo_lab.ranking.pairrm.comparisons import matrices, scores
from dpo_lab.ranking.pairrm.network import PairNetwork, load_network, refuse_unusable, size_of
from dpo_lab.ranking.pairrm.texts import PairTexts
from dpo_lab.records import Candidates, Prompt

FILES = ("*.json", WEIGHTS)
PARAMETERS = 436_014_081
"""Of llm-blender/PairRM."""
WIDTHS_PER_TOKEN = 24
"""Numbers of the encoder's width that a token of a batch takes in a layer, products of attention included; an estimate."""
TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of a batch: on a CPU larger ones are 11 to 118 % slower, since their scores leave the cache."""


@component
class PairRM(Ranker):
    """LLM-Blender's pairwise ranker: every answer against every other, in both orders.

    A score is the mean over answers of what the log-odds say shown first, less what they say shown second. The
    probability of a win comes from the pair's own log-odds (the mean of both orders), not from the difference of scores, which
    is twice as large.
    """

    label: ClassVar[str] = "pairrm"
    scores_alone: ClassVar[bool] = False
    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str = "llm-blender/PairRM"
    """Directory in the layout of llm-blender/PairRM or of llm-blender/PairRM-hf, or a Hub id."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; null: the newest."""
    backbone: str | None = None
    """Directory whose config.json describes the encoder, where it is not one of DeBERTa-v3's; null: as `path` says."""
    orders: Literal["both", "first"] = "both"
    """Show every pair in both orders, or in one: half the work, and a bias for the first place stays in the scores."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the weights; auto: fp32 on a CPU, bf16 on a GPU."""
    temperature: PositiveFloat = 1.0
    """Of the probability of a win: sigmoid(log-odds / temperature); SPPO takes differences of scores, which 0.5 gives."""
    tokens_per_batch: PositiveInt | None = None
    """Padding included; null: 2048 on a CPU, 16384 on a GPU. Changes speed and memory, never a score by more than rounding."""

    def content(self) -> dict[str, Any]:
        """Return what determines the scores: the files of a directory, and not how many rows are scored at once."""
        fields = {name: value for name, value in super().content().items() if name != "tokens_per_batch"}
        return {**fields, "weights": self.weights()}

    def check(self) -> None:
        """Raise ConfigError if a directory holds no PairRM; a Hub id is asked for when its files are needed."""
        if Path(self.path).is_dir():
            refuse_unusable(Path(self.path), self._backbone)
        elif not HUB_ID.fullmatch(self.path):
            raise ConfigError(self._entry().no_id())

    def bytes_needed(self, device: str) -> float:
        """Return what the weights take, and the states of a batch; of a Hub model that is not in the cache what is published."""
        directory = Path(self.path)
        width, weights = size_of(directory) if directory.is_dir() else (1024, PARAMETERS)
        tokens = self.tokens_per_batch or TOKENS[device]
        return weights * torch.finfo(self.format(device)).bits / 8 + WIDTHS_PER_TOKEN * 4.0 * tokens * width

    def weights(self) -> dict[str, Any]:
        """Return what says which weights these are: digests of a directory's files, or a commit of the Hub."""
        if Path(self.path).is_dir():
            return digests_of(Path(self.path))
        return {"commit": snapshot(self._entry(), ("config.json",)).name}

    def directory(self) -> Path:
        """Return where the files are, fetched if they are on the Hub."""
        if Path(self.path).is_dir():
            return Path(self.path)
        return snapshot(self._entry(), FILES)

    @property
    def _backbone(self) -> Path | None:
        return Path(self.backbone) if self.backbone else None

    def _entry(self) -> HubEntry:
        return HubEntry(self.path, self.revision, "model", "ranker")

    def format(self, device: str) -> torch.dtype:
        """Return the number format of the weights on a device."""
        half = self.dtype == "bf16" or (self.dtype == "auto" and device == "cuda")
        return torch.bfloat16 if half else torch.float32

    @property
    def gives_preferences(self) -> bool:
        """True: log-odds are kept with the scores."""
        return True

    def preference(self, candidates: Candidates, one: int, other: int) -> float | None:
        """Return the probability that an answer beats another, by their own log-odds in both orders."""
        return probability_of_a_win(candidates, one, other, self.temperature)

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Load the network for the block."""
        network, texts = load_network(self.directory(), device, self.format(device.type), self._backbone)
        tokens = self.tokens_per_batch or TOKENS[device.type]
        yield OpenPairRM(network, texts, tokens, both_orders=self.orders == "both")


@dataclass(frozen=True)
class OpenPairRM:
    """PairRM with its network loaded."""

    network: PairNetwork
    texts: PairTexts
    tokens: int
    both_orders: bool

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return scores and log-odds; a set's own do not depend on the sets beside it."""
        prompts = [source_of(candidate.prompt) for candidate in candidates]
        tables = matrices(
            self.network,
            self.texts,
            prompts,
            [candidate.responses for candidate in candidates],
            self.tokens,
            both_orders=self.both_orders,
        )
        return [Verdict(scores=tuple(scores(matrix).tolist()), pairwise=tuple(map(tuple, matrix.tolist()))) for matrix in tables]


def probability_of_a_win(candidates: Candidates, one: int, other: int, temperature: float) -> float | None:
    """Return the probability that an answer beats another, from their log-odds in both orders; None if they were not compared."""
    if not candidates.pairwise:
        return None
    odds = (candidates.pairwise[one][other] - candidates.pairwise[other][one]) / 2
    return 1 / (1 + math.exp(-odds / temperature))


def source_of(prompt: Prompt) -> str:
    """Return a prompt as PairRM reads it: its only user turn as it is, a conversation as llm-blender writes one.

    >>> source_of(Prompt.from_text("Is it good?"))
    'Is it good?'
    >>> source_of(Prompt.of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it good?"}]))
    'Be brief.\\nIs it good?'
    """
    system = [turn["content"] for turn in prompt.messages if turn["role"] == "system"]
    turns = [turn for turn in prompt.messages if turn["role"] != "system"]
    if len(turns) == 1:
        return "\n".join([*system, turns[0]["content"]])
    roles = {"user": "USER", "assistant": "ASSISTANT"}
    return "\n".join([*system, *(f"{roles.get(turn['role'], turn['role'].upper())}: {turn['content']}" for turn in turns)])
