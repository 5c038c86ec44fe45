"""A reference pass under way: what is scored is kept batch by batch, so that a killed pass resumes where it stopped."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from dpo_lab.durable_files import read_sealed, sealed_file
from dpo_lab.progress import say
from dpo_lab.scoring.passes import token_positions
from dpo_lab.tokens.store import TokenStore

SHOWN = 5  # missing responses that a message names


class Parts:
    """Per-token log-probabilities of a store's responses, one file per batch."""

    def __init__(self, directory: Path, store: TokenStore) -> None:
        self.directory = directory
        self.ends = torch.from_numpy(store.response_ends.copy())
        self.per_token = torch.full((len(store.response_ids),), torch.nan)
        self.known = torch.zeros(store.num_responses, dtype=torch.bool)
        directory.mkdir(exist_ok=True)
        for path in sorted(directory.glob("*.safetensors")):
            if (content := read_sealed(path)) is None:
                say(f"  {path} is damaged and is removed: its responses are scored again")
                path.unlink()
                continue
            part = load(content)
            self._take(part["responses"], part["per_token"])

    def _take(self, responses: Tensor, per_token: Tensor) -> None:
        self.per_token[token_positions(self.ends, responses, len(per_token))] = per_token
        self.known[responses] = True

    def add(self, responses: Tensor, per_token: Tensor) -> None:
        """Keep the log-probabilities of a batch; a kill leaves the whole file or none."""
        self._take(responses, per_token)
        path = self.directory / f"{int(responses.min()):09d}.safetensors"
        with sealed_file(path) as file:
            file.write(save({"responses": responses, "per_token": per_token}))

    def take_drawn(self, store: TokenStore) -> None:
        """Take what was drawn with the responses; nothing is written, the store has it."""
        drawn = torch.tensor(store.drawn_logps)
        given = ~drawn.isnan()
        self.per_token[given] = drawn[given]
        self.known |= given[self.ends - 1]

    def missing(self) -> str:
        """Return how many responses are scored and which are missing, or an empty text at the very beginning."""
        if not self.known.any():
            return ""
        left = torch.nonzero(~self.known).flatten().tolist()
        named = ", ".join(str(response) for response in left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
        done = f"{len(self.known) - len(left)} of {len(self.known)} responses are scored"
        return f"resuming reference: {done}; missing {named or 'none'}"

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory)
