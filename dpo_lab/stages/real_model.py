"""What is found out and said of pretrained weights before the long work: whether they are whole, how large, how slow."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dpo_lab.components import ConfigError
from dpo_lab.models.adapter import ADAPTER_CONFIG, NoAdapter
from dpo_lab.models.directory import parameters_in, positions_in, refuse_unusable_adapter
from dpo_lab.models.hub import checked
from dpo_lab.models.load import ModelOnDisk, base_of, completed_tokenizer
from dpo_lab.models.spec import ModelSpec, PretrainedModel
from dpo_lab.tokens.store import TokenStore

if TYPE_CHECKING:
    from dpo_lab.stages.train import Train

LARGE = 1_000_000_000  # weights from which a CPU takes hours
REACHED = 0.6  # share of the matrix rate that a step reaches; docs/benchmarks.md: 1.84 times ms-swift where the rate allows 2.65


def refuse_unusable_model(train: "Train") -> None:
    """Raise ConfigError if the pretrained model is missing, gated, not whole, or shorter than the rows asked for."""
    model = train.model
    if not isinstance(model, PretrainedModel):
        return
    if (Path(model.path) / ADAPTER_CONFIG).exists():
        refuse_unusable_adapter(Path(model.path))
    positions = positions_in(checked(base_of(model.path), model.revision, gated=model.gated))
    if positions and train.data.max_length > positions:
        raise ConfigError(
            f"data.max_length={train.data.max_length}: {model.label} was made for rows of at most {positions} tokens. "
            f"Use recipe.max_length={positions}."
        )


def parameters_of(model: ModelSpec) -> int | None:
    """Return how many weights a pretrained model has, None where that is not known before it is loaded."""
    if not isinstance(model, PretrainedModel):
        return None
    directory = Path(base_of(model.path))
    return parameters_in(directory) if directory.is_dir() else model.parameters


def named(base: ModelOnDisk) -> str:
    """Return a pretrained model as the screen names it: a Hub model with its commit, so that it can be asked for again."""
    commit = base.storage.revision
    return base.path if commit is None or Path(base.path).is_dir() else f"{base.path} at revision {commit}"


def tokenizer_notes(base: ModelOnDisk) -> tuple[str, ...]:
    """Return what the tokenizer lacked, one line each."""
    return completed_tokenizer(base.path, base.storage.revision)[1]


def slow_note(train: "Train", store: TokenStore) -> str:
    """Return how long a large model takes on this machine's CPU, an empty text where there is a GPU or the model is small."""
    parameters = parameters_of(train.model)
    if train.trainer.device().type != "cpu" or not parameters or parameters < LARGE:
        return ""
    tokens = train.layout.num_tokens(store, range(store.num_responses)) / store.num_pairs
    passes = 2 if not isinstance(train.model.adapter, NoAdapter) else 3  # forward, gradients of inputs, gradients of weights
    passes += train.reference.compares
    hours = cpu_hours(parameters, 1000 * tokens, passes)
    return (
        f"{parameters / 1e9:.1f} B weights and no GPU: works, about {hours:.0f} hours per 1000 pairs here; try model=smollm2_135m"
    )


def cpu_hours(parameters: int, tokens: float, passes: int, flops: float | None = None) -> float:
    """Return the hours that some tokens take: 2 operations per weight, token and pass.

    Args:
        flops: operations per second; None: measured here, in a moment.

    >>> round(cpu_hours(7_241_732_096, 1000 * 900, passes=3, flops=2e11))
    90
    """
    return 2 * parameters * tokens * passes / (REACHED * (flops or matrix_rate())) / 3600


def matrix_rate(size: int = 1024, times: int = 5) -> float:
    """Return the operations per second of this machine's matrix product in float32."""
    one, other = torch.rand(size, size), torch.rand(size, size)
    one @ other  # the first call sets the threads up
    start = time.perf_counter()
    for _ in range(times):
        one @ other
    return 2 * size**3 * times / (time.perf_counter() - start)
