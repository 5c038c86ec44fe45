"""A loaded model as lm-evaluation-harness asks it; the answers are kept as they are made."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from dpo_lab.continuing import kept_part
from dpo_lab.models.load import Loaded

BATCHES_AT_A_TIME = 16
"""Batches between two times that answers are kept: the harness sorts the requests of a call by length."""


class KeepingLM(HFLM):  # type: ignore[misc]  # the harness has no types that mypy follows
    """The harness's own model of transformers, which resumes after a kill."""

    def __init__(self, loaded: Loaded, *, batch_size: int, half: torch.dtype | None, name: str, directory: Path | None) -> None:
        super().__init__(
            pretrained=loaded.model,
            tokenizer=deepcopy(loaded.tokenizer),  # the harness gives it a padding token where it has none
            batch_size=batch_size,
            mixed_precision_dtype=half,
        )
        self._name, self._directory, self._rows = name, directory, batch_size * BATCHES_AT_A_TIME

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether it is the likeliest one."""
        answers = self._kept("loglikelihood", requests, super().loglikelihood)
        return [(float(value), bool(greedy)) for value, greedy in answers]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of each text."""
        return self._kept("rolling loglikelihood", requests, super().loglikelihood_rolling)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return what the model writes behind each context."""
        return self._kept("generation", requests, super().generate_until)

    def _kept(self, kind: str, requests: Sequence[Any], ask: Callable[..., list[Any]]) -> list[Any]:
        found: list[Any] = []
        with kept_part(f"{self._name} {kind}", len(requests), self._directory, "requests") as keep:
            for start in range(0, len(requests), self._rows):
                some = requests[start : start + self._rows]
                rows = range(start, start + len(some))
                found += keep(list(rows), partial(ask, list(some), disable_tqdm=True))
        return found
