"""What is measured of a round's policy while it is trained: the run's own measure, and answers to a few held-out prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.base import Measure
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.figures import Figure
from dpo_lab.models.load import ModelInMemory, ModelOnDisk
from dpo_lab.pipeline.evaluation import refuse_unnamed
from dpo_lab.pipeline.ranker import ready
from dpo_lab.records import Prompt
from dpo_lab.sampling.answers import answers_to
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.scoring.head import tokens_at_once
from dpo_lab.training.evaluations import Evaluations, MeasuredPolicy

NUM_PROMPTS = 3
GREEDY = HFSampler(num_samples=1, temperature=0.0, max_new_tokens=128)
"""Answers that differ by what was trained alone."""
NAME = "the policy in training"


@dataclass(frozen=True, kw_only=True)
class WhileTraining:
    """How a round's policy is measured while it is trained."""

    measure: Measure
    """With `every`."""
    figures: tuple[Figure, ...]
    """That it named."""
    context: Context
    """Of the round, with what was measured of earlier models; its policy is the one that the round starts from."""
    reference: ModelOnDisk
    """The reference, which answers the prompts once."""
    prompts: Sequence[Prompt]
    """The first few that were held out."""

    def content(self) -> dict[str, Any]:
        """Return what determines the rows that it adds."""
        held_out = self.context.held_out
        return {
            "every": self.measure.every,
            "measure": self.measure.content(),
            "held out": held_out.content() if held_out else None,
        }

    def for_workers(self) -> Evaluations:
        """Return what a process beside the first knows of it."""
        assert self.measure.every
        return Evaluations(every=self.measure.every, figures=self.figures, measure=None)

    def seldom(self, steps: int) -> list[str]:
        """Return a line if a training is so short that its policy is measured after the last step alone."""
        every = self.measure.every or steps
        if every < steps:
            return []
        return [
            f"evaluation.every={every}: this training has {count_of(steps, 'step')}, so its policy is measured after the last "
            f"one alone; evaluation.every={max(1, steps // 4)} shows its way there"
        ]

    def opened(self) -> Evaluations:
        """Return what the first process does; the reference answers and scores now, while no policy is in memory."""
        measure, _ = ready(self.measure, self.context.outputs)
        with self.reference.lent(self.context.device) as loaded:
            context, of_reference = self.context.knowing_reference(), self._answers(self.reference)
            measured = partial(self._measured, measure, context, loaded.tokenizer, of_reference)
        return replace(self.for_workers(), measure=measured)

    def _measured(
        self, measure: Measure, context: Context, tokenizer: Any, of_reference: Sequence[str], policy: nn.Module
    ) -> MeasuredPolicy:
        lent = ModelInMemory(policy, tokenizer, NAME)
        with tokens_at_once(None):  # as a policy is measured after its training
            found: Measured = measure.measure(replace(context, policy=lent))
        refuse_unnamed(found.figures, self.figures, type(measure).__name__)
        texts = zip(self.prompts, self._answers(lent), of_reference, strict=True)
        samples = [{"prompt": prompt.text, "policy": ours, "reference": theirs} for prompt, ours, theirs in texts]
        return MeasuredPolicy(found.figures, samples)

    def _answers(self, model: ModelOnDisk) -> list[str]:
        """Return a model's answer to each prompt; an empty one where the prompt cannot be read."""
        if not self.prompts:
            return []
        device: torch.device = self.context.device
        made = answers_to(self.prompts, model, GREEDY, device, self.context.seed, name="answers", directory=None)
        by_prompt = {candidate.prompt.id: candidate.responses[0] for candidate in made.candidates}
        return [by_prompt.get(prompt.id, "") for prompt in self.prompts]


def some_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the first few prompts, each once."""
    return list({prompt.id: prompt for prompt in prompts}.values())[:NUM_PROMPTS]
