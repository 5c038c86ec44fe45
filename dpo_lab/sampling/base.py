"""The contract of a sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from dpo_lab.components import Component


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
        advance: Callable[[int], None] = lambda count: None,
    ) -> list[list[list[int]]]:
        """Return the answers to each prompt as token ids, end token included when the model gave one.

        Args:
            model: a causal language model in eval mode, gradients off (`models.load.evaluating`).
            tokenizer: its tokenizer, for the end token.
            prompts: token ids of each prompt, as the chat template renders it for generation.
            seed: equal seeds give equal answers on one machine.
            num_samples: answers per prompt, instead of the sampler's own number.
            advance: told how many prompts were answered, as they are.
        """
