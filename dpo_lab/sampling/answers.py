"""Answers of a model to prompts: from text to token ids, to the model's own tokens, and back to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dpo_lab.continuing import kept_part
from dpo_lab.data.problems import DataError
from dpo_lab.drawn import Drawn
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.progress import say
from dpo_lab.records import Candidates, Prompt
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
        prompts: those that the model's chat template refuses, empty ones and those longer than the model reads are left out,
            and equal ones are answered once, each with a line that says so.
        name: what the progress calls this part.
        directory: where answers are kept as they are drawn, for a call after a kill; None keeps nothing.
        num_samples: answers per prompt, instead of the sampler's own number.
    """
    with sampler.open(policy, device) as model:
        encoder = ChatEncoder(model.tokenizer)
        taken = encoder.taken(distinct(prompts), policy.path)
        taken, ids = readable(taken, encoder.prompt_ids(taken), model.readable, policy.path)
        with kept_part(name, len(taken), directory, tokens_in=model.tokens_in) as keep:
            drawn = model.draw(ids, seed, num_samples=num_samples, keep=keep)
        return DrawnAnswers(ids, candidates_of(taken, drawn, model))


def distinct(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return every prompt once, and say how many are equal to an earlier one."""
    once = list({prompt.id: prompt for prompt in prompts}.values())
    if again := len(prompts) - len(once):
        say(f"  {again} of {len(prompts)} prompts are equal to an earlier one: each is answered once")
    return once


def readable(prompts: list[Prompt], ids: list[list[int]], most: int, model: str) -> tuple[list[Prompt], list[list[int]]]:
    """Return the prompts that a model can read with their token ids, and say how many it cannot.

    Raises:
        DataError: if it can read none.
    """
    empty, long = sum(not prompt_ids for prompt_ids in ids), sum(len(prompt_ids) > most for prompt_ids in ids)
    kept = [(prompt, each) for prompt, each in zip(prompts, ids, strict=True) if 0 < len(each) <= most]
    notes = [
        *([f"{empty} of {len(ids)} prompts left out: they have no token"] if empty else []),
        *([f"{long} of {len(ids)} prompts left out: they are longer than the {most} tokens that {model} reads"] if long else []),
    ]
    if notes and not kept:
        raise DataError(f"{'; '.join(notes)}. Use other prompts, or a model with a longer context.", code="empty_prompt")
    say(*(f"  {line}" for line in notes))
    return [prompt for prompt, _ in kept], [each for _, each in kept]


def candidates_of(prompts: Sequence[Prompt], drawn: Sequence[Sequence[Drawn]], model: OpenSampler) -> list[Candidates]:
    """Return drawn answers with their text, and whether they ended by themselves."""
    texts = iter(model.texts([answer.ids.tolist() for answers in drawn for answer in answers]))
    return [
        Candidates(
            prompt=prompt,
            responses=tuple(next(texts) for _ in answers),
            finished=tuple(model.has_ended(answer.ids) for answer in answers),
            drawn=tuple(answers),
        )
        for prompt, answers in zip(prompts, drawn, strict=True)
    ]
