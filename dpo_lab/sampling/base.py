"""The contract of a sampler."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import nn

from dpo_lab.components import Component
from dpo_lab.continuing import Keep, make_now


class Sampler(Component, ABC):
    """Draws answers of a model to prompts."""

    num_samples: int
    """Answers per prompt."""

    @abstractmethod
    def sample(
        self,
        model: nn.Module,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        seed: int,
        *,
        num_samples: int | None = None,
        keep: Keep = make_now,
    ) -> list[list[list[int]]]:
        """Return the answers to each prompt as token ids, end token included when the model gave one.

        Args:
            model: a causal language model in eval mode, gradients off (`models.load.evaluating`).
            tokenizer: its tokenizer, for the end token.
            prompts: token ids of each prompt, as the chat template renders it for generation.
            seed: equal seeds give equal answers on one machine.
            num_samples: answers per prompt, instead of the sampler's own number.
            keep: every batch is drawn through it, with the positions of its prompts as rows; a batch's answers depend on
                its prompts and the seed, not on the batches before, so that those that were kept need not be drawn again.
        """
