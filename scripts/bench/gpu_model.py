"""What gpu_check.sh trains: a random Mistral drawn on the device, its 4-bit form, and pairs of two kinds of lengths."""

import importlib
import re
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
DRY_SHAPE: dict[str, Any] = {**TINY_SHAPE, "vocab_size": 1000}
"""For a dry run: products of 32000 logits in 16 bits take a CPU minutes."""


def pairs(lengths: Lengths, shape: dict[str, Any] | None = None, seed: int = 0) -> list[task.Pair]:
    """Return pairs of these lengths with ids drawn from a seed, all of them in the vocabulary of a shape."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = (shape or {}).get("vocab_size", task.VOCABULARY)

    def drawn(count: int) -> list[int]:
        return torch.randint(task.SPECIAL_TOKENS, vocabulary, (count,), generator=generator).tolist()

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

    sizes = {"vocab_size": task.VOCABULARY, **shape}
    config = MistralConfig(max_position_embeddings=32768, sliding_window=None, use_cache=False, pad_token_id=2, **sizes)
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


def weights(model: nn.Module) -> int:
    """Return the elements of a model's matrices, its head among them: not its embedding, not an adapter's."""
    # a 4-bit layer's weight is packed, so sizes come from the layers; a layer with an adapter on it wraps its `base_layer`
    linear: dict[str, Any] = {name: module for name, module in model.named_modules() if hasattr(module, "in_features")}
    counted = [module for name, module in linear.items() if "lora_" not in name and "base_layer" not in name]
    return sum(int(module.in_features) * int(module.out_features) for module in counted)


def forwarded(batches: list[ItemBatch]) -> int:
    """Return the tokens that pass through the body: a shared prompt once, no padding."""
    masks = [batch.rows.inputs["attention_mask"] for batch in batches]  # of one row without padding: four dimensions
    return sum(int(mask.sum()) if mask.dim() == 2 else batch.num_tokens for mask, batch in zip(masks, batches, strict=True))


def operations(num_weights: int, tokens: int, adapter: str) -> float:
    """Return the floating-point operations that training is credited with: 4 a weight and token with LoRA, 6 in full.

    Two forward, two for the gradient by the input, and two by the weight, which a frozen base has not. The rule of published
    figures: attention, the adapter, and layers that are computed again are not counted.

    >>> operations(7_000_000_000, 1000, "lora") / 1e12, operations(7_000_000_000, 1000, "none") / 1e12
    (28.0, 42.0)
    """
    return float({"lora": 4, "none": 6}[adapter] * num_weights * tokens)


PEAKS = {"H200 NVL": 836, "H200": 989, "GH200": 989, "H100 NVL": 836, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362}
PEAKS |= {"L4": 121, "A10": 125, "RTX 4090": 165, "T4": 65, "V100": 125}
"""TFLOP/s of dense products in half precision, of data sheets, by a part of the device's name: the first that fits."""


def peak_tflops(device: str) -> float | None:
    """Return a device's rate in its data sheet, None where it is not known here.

    >>> peak_tflops("NVIDIA H100 80GB HBM3"), peak_tflops("NVIDIA A100-SXM4-80GB"), peak_tflops("Tesla T4")
    (989.0, 312.0, 65.0)
    >>> peak_tflops("NVIDIA H100 PCIe"), peak_tflops("x86_64")
    (756.0, None)
    """
    return next((float(rate) for name, rate in PEAKS.items() if re.search(rf"\b{name}\b", device)), None)
