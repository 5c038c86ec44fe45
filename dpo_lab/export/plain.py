"""A plain model in Hugging Face layout: the number format of its files, and loading it as anybody would."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from dpo_lab.components import RunError
from dpo_lab.models.directory import header_of, weight_files
from dpo_lab.models.hub import fetched


def dtype_on_disk(path: str, revision: str | None) -> Literal["fp32", "bf16"]:
    """Return the format that the weights of a directory or Hub id are written in again: bf16 for half precision, else fp32."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(fetched(path, revision, small=True)), trust_remote_code=False)
    return "bf16" if str(config.dtype).removeprefix("torch.") in ("bfloat16", "float16") else "fp32"


def type_of_files(path: str, revision: str | None) -> torch.dtype:
    """Return a number format that holds the weights of a directory or Hub id as they are, whatever its configuration says."""
    directory = fetched(path, revision)
    names = {about["dtype"] for file in weight_files(directory, "") for about in header_of(directory / file, "").values()}
    return {("BF16",): torch.bfloat16, ("F16",): torch.float16}.get((*names,), torch.float32)


def load_plain(directory: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Return the model of a directory as plain transformers loads it.

    Raises:
        RunError: if a weight is missing, which the library would make up.
    """
    from transformers import AutoModelForCausalLM

    made: Any = AutoModelForCausalLM.from_pretrained(str(directory), dtype=dtype, output_loading_info=True)
    model, found = made
    if wrong := sorted({*found["missing_keys"], *found["unexpected_keys"], *map(str, found["mismatched_keys"])}):
        raise RunError(f"{directory}: plain transformers does not find its weights ({', '.join(wrong[:3])}).")
    plain: nn.Module = model.to(device)
    return plain
