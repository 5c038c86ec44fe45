"""PairRM: which of two responses is better, by a small encoder (Jiang et al. 2023, arXiv:2306.02561)."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.records import Candidates


@component
class PairRM(Ranker):
    """LLM-Blender's pairwise ranker, Jiang et al. 2023 (arXiv:2306.02561)."""

    label: ClassVar[str] = "pairrm"

    path: str = "llm-blender/PairRM"
    """Hub id or directory."""
    batch_size: PositiveInt = 16
    """Comparisons per forward pass."""

    def check(self) -> None:
        """Raise ConfigError: this version cannot run it."""
        raise ConfigError(
            "PairRM is not implemented yet. Use data=films, pairs that are ranked already (data=jsonl data.path=FILE), "
            "or a control: ranker=length."
        )

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Raise ConfigError: see `check`."""
        self.check()
        raise NotImplementedError
