"""Answers of a model to prompts: from text to token ids, to the model's own tokens, and back to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dpo_lab.continuing import kept_part
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.records import Candidates, Drawn, Prompt
from dpo_lab.sampling.base import OpenSampler, Sampler
from dpo_lab.tokens.template import ChatEncoder


@dataclass(frozen=True)
class DrawnAnswers:
    """Answers of a model to prompts, as text and as tokens."""

    prompt_ids: list[list[int]]
    """Token ids of each prompt, as the model reads it."""
    candidates: list[Candidates]
    """One per prompt, with the drawn tokens of its answers."""


def answers_to(
    prompts: Sequence[Prompt],
    policy: ModelOnDisk,
    sampler: Sampler,
    device: torch.device,
    seed: int,
    *,
    name: str,
    directory: Path | None,
    num_samples: int | None = None,
) -> DrawnAnswers:
    """Return a model's answers to prompts; the model is released when they are drawn.

    Args:
        prompts: those that the model's chat template refuses are left out, with a line that says so.
        name: what the progress calls this part.
        directory: where answers are kept as they are drawn, for a call after a kill; None keeps nothing.
        num_samples: answers per prompt, instead of the sampler's own number.
    """
    with sampler.open(policy, device) as model:
        encoder = ChatEncoder(model.tokenizer)
        taken = encoder.taken(prompts, policy.path)
        ids = encoder.prompt_ids(taken)
        with kept_part(name, len(taken), directory) as keep:
            drawn = model.draw(ids, seed, num_samples=num_samples, keep=keep)
        return DrawnAnswers(ids, candidates_of(taken, drawn, model))


def candidates_of(prompts: Sequence[Prompt], drawn: Sequence[Sequence[Drawn]], model: OpenSampler) -> list[Candidates]:
    """Return drawn answers with their text, and whether they ended by themselves."""
    ends = set(model.ends)
    texts = iter(model.texts([answer.ids.tolist() for answers in drawn for answer in answers]))
    return [
        Candidates(
            prompt=prompt,
            responses=tuple(next(texts) for _ in answers),
            finished=tuple(bool(answer.ids) and answer.ids[-1] in ends for answer in answers),
            drawn=tuple(answers),
        )
        for prompt, answers in zip(prompts, drawn, strict=True)
    ]
