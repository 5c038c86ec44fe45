"""A reference pass under way: what is scored is kept batch by batch, so that a killed pass goes on where it stopped."""

import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

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
            try:
                part = load_file(path)
                self._take(part["responses"], part["per_token"])
            except (SafetensorError, KeyError, RuntimeError, IndexError):
                path.unlink()  # not one of ours, or cut: its responses are scored again

    def _take(self, responses: Tensor, per_token: Tensor) -> None:
        self.per_token[token_positions(self.ends, responses, len(per_token))] = per_token
        self.known[responses] = True

    def add(self, responses: Tensor, per_token: Tensor) -> None:
        """Keep the log-probabilities of a batch; a kill leaves the whole file or none."""
        self._take(responses, per_token)
        path = self.directory / f"{int(responses.min()):09d}.safetensors"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file({"responses": responses, "per_token": per_token}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)

    def missing(self) -> str:
        """Return how many responses are scored and which are missing, or an empty text at the very beginning."""
        if not self.known.any():
            return ""
        left = torch.nonzero(~self.known).flatten().tolist()
        named = ", ".join(str(response) for response in left[:SHOWN]) + (", ..." if len(left) > SHOWN else "")
        done = f"{len(self.known) - len(left)} of {len(self.known)} responses are scored"
        return f"reference goes on: {done}; missing {named or 'none'}"

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.directory)
