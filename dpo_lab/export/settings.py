"""What is exported from a policy, and where that is done."""

import re
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.export.source import Source


def size(value: Any) -> str:
    """Return a size as it was typed; ValueError for what is not a number with KB, MB or GB."""
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB)", str(value)):
        raise ValueError("a size is a whole number with KB, MB or GB, such as 5GB")
    return str(value)


@component
class ExportSettings(Component):
    """What is written."""

    base: Literal["trained", "original"] = "trained"
    """trained: the base as training held it, dequantised. original: the weights on disk, which a quantised base is not."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the written weights. auto: bf16 where the base's file is in half precision, else fp32."""
    max_shard_size: Annotated[str, BeforeValidator(size)] = "5GB"
    """Of a file of weights."""
    base_path: str | None = None
    """Where the base of an adapter is now, if it was moved since the training; null: where the adapter says."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is merged and checked. auto: a GPU if there is one, but the CPU for an 8-bit base."""


def refuse_unknown_base(source: Source, settings: ExportSettings) -> None:
    """Raise ConfigError if an adapter would have to be merged into a base of which nothing says how it was held."""
    if source.storage is None and settings.base == "trained":
        raise ConfigError(
            f"policy={source.path}: nothing records how its base was held in training (quantised, or as on disk). "
            "export.base=original merges into the weights on disk, which is right for an adapter trained without quantisation."
        )


def device_of(settings: ExportSettings, source: Source) -> torch.device:
    """Return where the work is done.

    On a GPU an 8-bit layer rounds its inputs too (LLM.int8()), which no merged weight can repeat; on a CPU, in train mode, it
    does not.
    """
    eight = source.storage is not None and source.storage.quant.bits == 8
    if eight and settings.device == "cuda":
        raise ConfigError(
            "export.device=cuda: an 8-bit layer on a GPU rounds its inputs as well as its weights, so that no merged model "
            "agrees with it. Use export.device=cpu."
        )
    on_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available() and not eight)
    return torch.device("cuda" if on_gpu else "cpu")
