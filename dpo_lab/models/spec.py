"""What a model is: a recipe for a tiny one, or the name of pretrained weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.directory import base_of
from dpo_lab.models.given import digests_of
from dpo_lab.models.quant import EightBit, FourBit, NoQuant, Quant, without_bitsandbytes

Checkpointing = bool | Literal["auto"]
CHECKPOINTING = "model.checkpointing=true"
"""What makes a training keep less, as it is typed."""
NEITHER = "is neither pretrained nor tiny; see dpo_lab/models/spec.py."
"""What is wrong with a model of none of the kinds below."""


class ModelSpec(Component):
    """A causal language model with its quantisation and adapter."""

    quant: Quant
    adapter: Adapter
    label: str
    """Name in directories and on the end screen."""
    checkpointing: Checkpointing
    """Whether training computes each layer again in the backward pass in place of keeping what it made."""

    @property
    def pretrained(self) -> "PretrainedModel | None":
        """The weights that exist already, None for a model that is made here."""
        return None

    @property
    def recipe(self) -> "TinyModel | None":
        """How a model is made here, None for one that is pretrained."""
        return None

    def check(self) -> None:
        """Raise ConfigError if the adapter cannot train such a base: quantised weights have no gradient."""
        bits = self.quant.bits
        if bits and self.adapter.trains_all:
            raise ConfigError(f"a base in {bits} bits cannot be trained in full; use adapter=lora, or quant=none.")
        if bits == 8 and self.adapter.dora:  # peft cannot dequantise these on every device
            raise ConfigError(
                "quant=8bit with adapter=dora: the lengths of 8-bit weights cannot be read; use quant=4bit, or adapter=lora."
            )

    def content(self) -> dict[str, Any]:
        """Return what determines the weights, untrained and trained: `checkpointing` does not count."""
        return {name: value for name, value in super().content().items() if name != "checkpointing"}

    def smaller(self) -> "Iterator[tuple[str, ModelSpec]]":
        """Yield how to take less memory, the smallest change first: what to type, and the model so changed.

        Computing its layers again (`CHECKPOINTING`) is not among them: it goes with each.
        """
        if self.adapter.trains_all:
            yield "adapter=lora", replace(self, adapter=LoRA())  # type: ignore[type-var]  # every kind is a dataclass


@component
class PretrainedModel(ModelSpec):
    """Weights of a directory in Hugging Face layout, or of the Hub."""

    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    """Directory, or Hub id such as HuggingFaceTB/SmolLM2-135M-Instruct."""
    revision: str | None = None
    """Commit or tag of a Hub model; null: its main branch."""
    licence: str
    """Of the weights."""
    gated: bool | None = None
    """Whether the owner on the Hub asks for consent, said where the Hub cannot be asked; null: not known."""
    parameters: PositiveInt | None = None
    """Number of weights, for what is said before they are downloaded; null: unknown. Of a directory they are counted."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the weights in memory. auto: bf16 or fp16 for a frozen base whose adapter is trained in it, else fp32."""
    checkpointing: Checkpointing = False
    """Compute each layer again in the backward pass: a pass keeps less and takes about a third longer, gradients are equal.
    auto: where the memory plan does not fit without."""
    quant: Quant = NoQuant()
    adapter: Adapter = NoAdapter()

    @property
    def label(self) -> str:  # type: ignore[override]
        """The last part of the path."""
        return Path(self.path).name

    @property
    def pretrained(self) -> "PretrainedModel":
        """This one."""
        return self

    def content(self) -> dict[str, Any]:
        """Return what determines the weights.

        Of a directory, and of the one below an adapter, the digests of its files, and not where it stands: it may be moved.
        """
        fields = {name: value for name, value in super().content().items() if name not in ("licence", "gated", "parameters")}
        base = base_of(self.path)
        adapts = {"base": digests_of(Path(base))} if Path(base).resolve() != Path(self.path).resolve() else {}
        files = digests_of(Path(self.path))
        placed = {name: value for name, value in fields.items() if name != "path" or not files}
        return {**placed, "files": files, **adapts}

    def smaller(self) -> Iterator[tuple[str, ModelSpec]]:
        """Yield it with an adapter, and then with fewer bits, which only an adapter can train."""
        yield from super().smaller()
        if without_bitsandbytes():
            return
        text, adapter = ("adapter=lora ", LoRA()) if self.adapter.trains_all else ("", self.adapter)
        for name, quant in (("8bit", EightBit()), ("4bit", FourBit())):
            fewer = not self.quant.bits or quant.bits < self.quant.bits
            if fewer and not (quant.bits == 8 and adapter.dora):  # lengths of 8-bit weights cannot be read
                yield f"{text}quant={name}", replace(self, adapter=adapter, quant=quant)

    def birth(self) -> dict[str, Any]:
        """Return the part of the content that determines the weights on disk: not how they are held, nor the adapter."""
        return {name: value for name, value in self.content().items() if name not in ("quant", "adapter", "dtype")}


@component
class TinyModel(ModelSpec):
    """A Mistral small enough to be trained from nothing in seconds: no download, no licence.

    On film prompts it is first fine-tuned on reviews that the grammar writes; on other text it starts random.
    """

    hidden_size: PositiveInt = 128
    """Below 128 the film titles are never copied."""
    intermediate_size: PositiveInt = 352
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 4
    vocab_size: Annotated[int, Field(ge=300)] = 4096
    """At most so many tokens: 256 bytes, special tokens, merges learned from the text."""
    sft_examples: PositiveInt = 14400
    """Examples seen once, in order, when there are any."""
    sft_batch_size: PositiveInt = 16
    sft_lr: float = 3e-3
    checkpointing: Checkpointing = False
    """Compute each layer again in the backward pass: a pass keeps less and takes about a third longer, gradients are equal.
    auto: where the memory plan does not fit without."""
    quant: Quant = NoQuant()
    adapter: Adapter = NoAdapter()

    @property
    def label(self) -> str:  # type: ignore[override]
        """The name of its yaml."""
        return "tiny"

    @property
    def recipe(self) -> "TinyModel":
        """This one."""
        return self

    def check(self) -> None:
        """Raise ConfigError if the heads cannot share the width evenly, in even parts for the rotary positions."""
        super().check()
        share = 2 * self.num_heads
        if self.hidden_size % share:
            raise ConfigError(
                f"hidden_size={self.hidden_size} is not a multiple of 2 x num_heads={self.num_heads}; "
                f"use hidden_size={-(-self.hidden_size // share) * share}."
            )

    def birth(self) -> dict[str, Any]:
        """Return the part of the content that determines the untrained model: neither quantisation nor adapter."""
        return {name: value for name, value in self.content().items() if name not in ("quant", "adapter")}
