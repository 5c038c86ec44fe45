"""The contract of a sampler, and of what it is while it is open: a model that answers prompts."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from dpo_lab.components import Component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.drawn import Drawn
from dpo_lab.models.load import ModelOnDisk


class OpenSampler(ABC):
    """A sampler whose model is ready: draws answers to prompts."""

    tokenizer: Any
    """Of the model."""
    ends: Sequence[int]
    """Ids of the tokens that end an answer."""
    readable: int = sys.maxsize
    """Most tokens that the model reads: a longer prompt cannot be answered."""

    @abstractmethod
    def draw(
        self, prompts: Sequence[Sequence[int]], seed: int, *, num_samples: int | None = None, keep: Keep = make_now
    ) -> list[list[Drawn]]:
        """Return the answers to each prompt, end token included when the model gave one, with the model's log-probabilities.

        Args:
            prompts: token ids of each prompt, as the chat template renders it for generation.
            seed: equal seeds give equal answers on one machine.
            num_samples: answers per prompt, instead of the sampler's own number.
            keep: every batch is drawn through it, with the positions of its prompts as rows; a batch's answers depend on
                its prompts and the seed, not on the batches before, so that kept batches need not be drawn again.
        """

    def tokens_in(self, batch: Any) -> int:
        """Return how many tokens were drawn in a batch that went through `keep`; 0, as here, shows no speed."""
        return 0

    def has_ended(self, answer: Sequence[int]) -> bool:
        """Return whether an answer ended by itself, not because it was cut."""
        return len(answer) > 0 and answer[-1] in self.ends

    def texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Return token ids of answers as text, without end token, special tokens and outer white space."""
        ends = set(self.ends)
        without = [answer[:-1] if answer and answer[-1] in ends else answer for answer in answers]  # not every end is special
        return [text.strip() for text in self.tokenizer.batch_decode(without, skip_special_tokens=True)]


class Sampler(Component, ABC):
    """How answers of a model to prompts are drawn."""

    gives_own_logps: ClassVar[bool] = False
    """True if a token is drawn with the log-probability that the policy itself gives it, computed with the same weights in the
    same number format: it can then stand for a forward pass. A separate engine has its own kernels and roundings."""

    num_samples: int
    """Answers per prompt."""

    @property
    def greedy(self) -> bool:
        """Whether all answers to a prompt are the same, so that they cannot be compared."""
        return False

    @abstractmethod
    def open(self, policy: ModelOnDisk, device: torch.device) -> AbstractContextManager[OpenSampler]:
        """Return a context in which a model answers prompts; what it loads is released when the context is left."""
