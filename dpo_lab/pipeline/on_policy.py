"""Pairs made by the policy itself: sample, rank, pair."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import component
from dpo_lab.continuing import kept_part, remove_kept
from dpo_lab.data.base import Data, Order, Prompts, Truncation
from dpo_lab.evaluation.generation import decoded
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.ranking.base import Ranker, rank_kept
from dpo_lab.ranking.pairing import Pairing
from dpo_lab.records import Candidates, PreferencePair, Prompt, read_jsonl, write_jsonl
from dpo_lab.sampling.base import Sampler
from dpo_lab.seeding import derive
from dpo_lab.tokens.template import ChatEncoder

CANDIDATES, PAIRS = "candidates.jsonl", "pairs.jsonl"


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
    asked = {"policy": policy.id, "prompts": [prompt.id for prompt in prompts], "sampler": data.sampler.content(), "seed": seed}
    sampling = Plan(root, "candidates", name, asked, parents=[policy.id])

    def sample(directory: Path) -> dict[str, Any]:
        loaded = policy.loaded(device)
        encoder = ChatEncoder(loaded.tokenizer)
        taken = encoder.taken(prompts, policy.path)
        ids = encoder.prompt_ids(taken)
        with evaluating(loaded.model) as model, kept_part("sample", len(taken), directory) as keep:
            drawn = data.sampler.draw(model, loaded.tokenizer, ids, derive(seed, "sample"), keep=keep)
        origin = {"model": policy.id, "seed": seed, "sampling": data.sampler.content()}
        texts = decoded(taken, [[answer.ids.tolist() for answer in each] for each in drawn], loaded)
        made = (replace(each, drawn=tuple(answers)) for each, answers in zip(texts, drawn, strict=True))
        write_jsonl(directory / CANDIDATES, ({**each.to_record(), **origin} for each in made))
        remove_kept(directory)
        return {
            "prompts": len(taken),
            "answers": sum(map(len, drawn)),
            "tokens": sum(len(answer.ids) for each in drawn for answer in each),
        }

    candidates = sampling.make(sample, force=force, resume=True)
    judged = {"candidates": candidates.id, "ranker": data.ranker.content(), "pairing": data.pairing.content()}
    ranking = Plan(root, "pairs", name, judged, parents=[candidates.id])

    def rank(directory: Path) -> dict[str, Any]:
        sets = [Candidates.from_record(record) for record in read_jsonl(candidates.path / CANDIDATES)]
        with kept_part("rank", len(sets), directory) as keep:
            verdicts = rank_kept(data.ranker, sets, keep)
        scored = [replace(each, scores=verdict.scores) for each, verdict in zip(sets, verdicts, strict=True)]
        pairs = data.pairing.pairs(scored, data.ranker)
        write_jsonl(directory / CANDIDATES, (each.to_record() for each in scored))
        write_jsonl(directory / PAIRS, (pair.to_record("train") for pair in pairs))
        remove_kept(directory)
        return {"prompts": len(sets), "pairs": len(pairs)}

    ranked = ranking.make(rank, force=force, resume=True)
    pairs = [PreferencePair.from_record(record) for record in read_jsonl(ranked.path / PAIRS)]
    return MadePairs(pairs, candidates, ranked)
