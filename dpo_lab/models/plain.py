"""A plain model in Hugging Face layout: what stands beside its weights, and loading it as anybody would."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from dpo_lab.components import RunError
from dpo_lab.models.directory import header_of, weight_files
from dpo_lab.models.hub import fetched
from dpo_lab.models.load import load_tokenizer
from dpo_lab.models.tokenizer import bring_sources, readable_by_version_4, save_tokenizer


def dtype_on_disk(path: str, revision: str | None) -> Literal["fp32", "bf16"]:
    """Return the format that the weights of a directory or Hub id are written in again: bf16 for half precision, else fp32."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
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


def write_beside(
    policy: str, base: str, revision: str | None, model: Any, directory: Path, dtype: torch.dtype, *, tied: bool
) -> None:
    """Write what belongs to weights: configuration, generation settings, tokenizer with its chat template.

    Args:
        policy: directory or Hub id that has the tokenizer.
        base: the one that has the configuration, which is the base's own: loading sets dropout and number format.
        model: the loaded policy, of which the generation settings are.
        tied: whether input embeddings and head are still one weight.
    """
    from transformers import AutoConfig

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = dtype
    config.tie_word_embeddings = tied
    config.architectures = [type(plain).__name__]
    save_tokenizer(load_tokenizer(policy, revision), directory)
    bring_sources(fetched(base, revision, small=True), directory)  # a policy from elsewhere has none of them
    readable_by_version_4(directory)
    if getattr(plain, "generation_config", None) is not None:
        plain.generation_config.save_pretrained(str(directory))
    config.save_pretrained(str(directory))  # last: before it, nothing loads the directory
    with_older_names(directory / "config.json")


def with_older_names(path: Path) -> None:
    """Write a configuration's rotary positions and number format under the names that transformers 4 reads too.

    Version 5 writes `rope_parameters` alone, of which 4 knows nothing: it would take its default base of 10 000 and say nothing,
    where Mistral-7B-Instruct-v0.2 has 1 000 000. Version 5 reads both.
    """
    about = json.loads(path.read_text(encoding="utf-8"))
    about["torch_dtype"] = about["dtype"]
    rotary = about.get("rope_parameters") or {}
    if "rope_theta" in rotary:  # else none, or one for each kind of layer, which no older version has
        about["rope_theta"] = rotary["rope_theta"]
        others = {name: value for name, value in rotary.items() if name != "rope_theta"}
        about["rope_scaling"] = None if others.get("rope_type", "default") == "default" else others
    path.write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
