"""Pairs made by the policy itself: sample, rank, pair."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from dpo_lab.artifacts import Artifact
from dpo_lab.components import component
from dpo_lab.data.base import Data, Order, Prompts, Truncation
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.answers import sampled
from dpo_lab.pipeline.pairs import ranked, read_pairs
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing import Pairing
from dpo_lab.records import PreferencePair, Prompt
from dpo_lab.sampling.base import Sampler


@component
class OnPolicy(Data):
    """Each round: the policy answers prompts, the ranker scores the answers, the pairing picks pairs."""

    prompts: Prompts
    sampler: Sampler
    ranker: Ranker
    pairing: Pairing
    max_length: Annotated[int, Field(ge=4)] = 1024
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @property
    def label(self) -> str:  # type: ignore[override]
        """The name of its prompts."""
        return self.prompts.label


@dataclass(frozen=True)
class MadePairs:
    """The pairs of one round and the artifacts they stand in."""

    pairs: list[PreferencePair]
    candidates: Artifact
    ranked: Artifact


def make_pairs(
    data: OnPolicy,
    policy: ModelOnDisk,
    prompts: list[Prompt],
    *,
    root: Path,
    name: str,
    seed: int,
    device: torch.device,
    force: bool,
) -> MadePairs:
    """Sample answers of the policy, rank them and pair them; each part is kept and found again.

    Args:
        name: readable part of the directories' names.
        seed: of this round's draws.
    """
    where: dict[str, Any] = {"root": root, "name": name, "device": device, "force": force}
    answers = sampled(prompts, policy, data.sampler, seed=seed, **where)
    made = ranked(answers, data.ranker, data.pairing, **where)
    return MadePairs(read_pairs(made), answers, made)
