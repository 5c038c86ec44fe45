"""Prompts of the embedded film world, and of Hub data sets."""

from typing import ClassVar

from pydantic import PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.records import Prompt
from dpo_lab.world.corpus import sft_corpus
from dpo_lab.world.prompts import held_out_prompts, train_prompts_for


@component
class FilmPrompts(Prompts):
    """Questions about films of the embedded world; 53 of the 1024 films are held out."""

    label: ClassVar[str] = "films"
    films: ClassVar[bool] = True

    num_prompts: PositiveInt = 600
    """Prompts per round."""

    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round; ConfigError when the world has no more."""
        try:
            texts = train_prompts_for(seed, number * self.num_prompts, self.num_prompts)
        except ValueError as error:
            raise ConfigError(f"prompts.num_prompts={self.num_prompts}, round {number + 1}: {error}") from None
        return [Prompt.from_text(text) for text in texts]

    def held_out(self) -> list[Prompt]:
        """Return every prompt about a held-out film: 318."""
        return [Prompt.from_text(text) for text in held_out_prompts()]

    def examples(self, count: int, seed: int) -> list[tuple[Prompt, str]]:
        """Return reviews written by the grammar, as a curriculum."""
        return [(Prompt.from_text(prompt), review) for prompt, review in sft_corpus(count, seed)]


@component
class HubPrompts(Prompts):
    """Prompts of a data set on the Hugging Face Hub."""

    missing = "prompts from the Hub are not built yet. Use data=films, or given pairs: data=jsonl data.path=..."
    label: ClassVar[str] = "hub"

    path: str
    """Hub id or directory."""
    num_prompts: PositiveInt = 5000
    """Prompts per round."""

    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Raise ConfigError: see `missing`."""
        raise ConfigError(f"prompts: {self.missing}")

    def held_out(self) -> list[Prompt]:
        """Raise ConfigError: see `missing`."""
        raise ConfigError(f"prompts: {self.missing}")
