"""The contract of a sampler."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import nn

from dpo_lab.components import Component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.records import Drawn


class Sampler(Component, ABC):
    """Draws answers of a model to prompts."""

    num_samples: int
    """Answers per prompt."""

    @abstractmethod
    def draw(
        self,
        model: nn.Module,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        seed: int,
        *,
        num_samples: int | None = None,
        keep: Keep = make_now,
    ) -> list[list[Drawn]]:
        """Return the answers to each prompt, end token included when the model gave one, with what the model said of them.

        An answer ends at every token of `models.ends.ends_of`, or is cut.

        Args:
            model: a causal language model in eval mode, gradients off (`models.load.evaluating`).
            tokenizer: its tokenizer, for the end tokens.
            prompts: token ids of each prompt, as the chat template renders it for generation.
            seed: equal seeds give equal answers on one machine.
            num_samples: answers per prompt, instead of the sampler's own number.
            keep: every batch is drawn through it, with the positions of its prompts as rows; a batch's answers depend on
                its prompts and the seed, not on the batches before, so that those that were kept need not be drawn again.
        """

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
        """Return the token ids alone of the answers that `draw` draws."""
        drawn = self.draw(model, tokenizer, prompts, seed, num_samples=num_samples, keep=keep)
        return [[answer.ids.tolist() for answer in each] for each in drawn]
