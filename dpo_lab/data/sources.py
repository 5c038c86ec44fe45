"""Given pairs: of a file, and of a data set on the Hub."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpo_lab.artifacts import file_digest
from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Given, GivenPairs, Order, Truncation
from dpo_lab.data.load import load_pairs
from dpo_lab.data.split import split_by_prompt

Share = Annotated[float, Field(ge=0, le=1)]
MaxLength = Annotated[int, Field(ge=4)]


@component
class FilePairs(Given):
    """Pairs of a JSON or JSON Lines file, in any layout that data/formats.py knows."""

    path: Path
    """The file."""
    held_out: Annotated[int, Field(ge=0)] | None = None
    """Prompts kept for evaluation; null: a fifth of them, at most 500."""
    split_seed: int = 0
    """Which prompts are held out; apart from the run's seed, so that runs of several seeds share their pairs."""
    max_dropped: Share = 0.05
    """Share of rows that may be left out as unusable before the run stops."""
    max_length: MaxLength = 512
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @property
    def label(self) -> str:  # type: ignore[override]
        """The file's name."""
        return self.path.stem

    def content(self) -> dict[str, Any]:
        """Return the fields with the file's digest in place of its path; how many rows may be unusable is no content."""
        fields = {name: value for name, value in super().content().items() if name not in ("path", "max_dropped")}
        return {**fields, "sha256": file_digest(self.path) if self.path.is_file() else None}

    def load(self) -> GivenPairs:
        """Return the file's pairs, split by prompt."""
        pairs, report = load_pairs(self.path, max_dropped=self.max_dropped)
        train, held_out = split_by_prompt(pairs, self.held_out, self.split_seed)
        return GivenPairs(train, held_out, tuple(report.lines()))


@component
class HubPairs(Given):
    """Pairs of a data set on the Hugging Face Hub."""

    missing = "data sets of the Hub are not built yet. Save the pairs as JSON Lines and use data=jsonl data.path=..."

    path: str
    """Hub id or directory."""
    splits: tuple[str, ...]
    """Training split of each round; one split means one round."""
    held_out: Annotated[int, Field(ge=0)] | None = None
    """Prompts kept for evaluation; null: a fifth of them, at most 500."""
    split_seed: int = 0
    """Which prompts are held out; apart from the run's seed, so that runs of several seeds share their pairs."""
    max_length: MaxLength = 1024
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @property
    def label(self) -> str:  # type: ignore[override]
        """The data set's name without its owner."""
        return self.path.rpartition("/")[2]

    def load(self) -> GivenPairs:
        """Raise ConfigError: see `missing`."""
        raise ConfigError(f"data: {self.missing}")
