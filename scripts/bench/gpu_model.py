"""What gpu_check.sh trains: a random Mistral drawn on the device, its 4-bit form, and pairs of two kinds of lengths."""

import importlib
from typing import Any

import torch
from torch import nn

from dpo_lab.layouts.base import ItemBatch
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from scripts.bench import task

Lengths = tuple[tuple[int, int, int], ...]
LONG: Lengths = (
    *((152, 341, 287), (431, 512, 460), (88, 640, 701), (240, 280, 333)),
    *((1020, 390, 415), (61, 455, 520), (333, 702, 610), (180, 366, 298)),
)
"""Tokens of prompt, chosen and rejected response: a long answer to a short question, as chat data sets have; invented."""
TINY: Lengths = ((9, 4, 6), (3, 7, 5), (12, 2, 3), (5, 6, 6))
GATE: Lengths = ((150, 40, 61), (3, 170, 5), (129, 2, 130), (64, 64, 64))
"""Rows of several blocks of 128 positions: full ones, empty ones, and some that are cut by a prompt's or response's end."""
SHAPE: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
"""Of mistralai/Mistral-7B-Instruct-v0.2, whose vocabulary is that of the benchmark, 32000."""
TINY_SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
}
"""Heads as large as those of the 7B, and two for one of keys, so that the same kernels are checked."""


def pairs(lengths: Lengths, seed: int = 0) -> list[task.Pair]:
    """Return pairs of these lengths with ids drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> list[int]:
        return torch.randint(task.SPECIAL_TOKENS, task.VOCABULARY, (count,), generator=generator).tolist()

    return [task.Pair(drawn(prompt), drawn(chosen), drawn(rejected)) for prompt, chosen, rejected in lengths]


def token_store(some: list[task.Pair]) -> TokenStore:
    """Return pairs as a token store."""
    builder = StoreBuilder()
    for pair in some:
        chosen, rejected = (builder.add_response(pair.prompt, response) for response in (pair.chosen, pair.rejected))
        builder.add_item([chosen, rejected])
    return builder.build()


def mistral(shape: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """Return a Mistral with random weights, drawn on the device: seconds for 7 billion."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=task.VOCABULARY, max_position_embeddings=32768, sliding_window=None, use_cache=False, pad_token_id=2, **shape
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    try:
        with torch.device(device):
            return MistralForCausalLM(config).train()
    finally:
        torch.set_default_dtype(before)


def in_4_bits(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the model with every linear layer but the head in nf4 with double quantisation, as quant=4bit loads it."""
    layers: Any = importlib.import_module("bitsandbytes.nn.modules")
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or name.endswith("lm_head"):
            continue
        made = layers.Linear4bit(
            module.in_features, module.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        weight = module.weight.data
        made.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=made)
        made.weight = made.weight.to(weight.device)  # quantises
        made.support_avx512bf16_for_cpu = False
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, made)
    marked: Any = model
    marked.is_loaded_in_4bit = True  # peft asks for it, and puts its own 4-bit layers on top
    return model


def operations(model: nn.Module, batches: list[ItemBatch]) -> float:
    """Return the floating-point operations of training an adapter on batches: 2 x positions x weights, forward and by input.

    As scripts/bench/flops.py counts: the frozen base has no gradient by weight, the adapter has; attention is left out.
    """
    # a 4-bit layer's weight is packed, so sizes come from the layers
    linear: dict[str, Any] = {name: module for name, module in model.named_modules() if hasattr(module, "in_features")}
    sizes = {name: int(module.in_features) * int(module.out_features) for name, module in linear.items()}
    head = sum(size for name, size in sizes.items() if "lm_head" in name)
    lora = sum(size for name, size in sizes.items() if "lora_" in name)
    body = sum(size for name, size in sizes.items() if "lm_head" not in name and "lora_" not in name and "base_layer" not in name)
    tokens = sum(batch.rows.inputs["input_ids"].numel() for batch in batches)
    answers = sum(len(batch.rows.targets) for batch in batches)
    return 2.0 * float(tokens * (2 * body + 3 * lora) + answers * 2 * head)
