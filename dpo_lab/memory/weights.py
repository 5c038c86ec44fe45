"""What a model's weights take in memory, from its configuration alone: nothing is loaded."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError
from dpo_lab.models.adapted import held_in
from dpo_lab.models.checkpointing import recompute_layers
from dpo_lab.models.directory import base_of
from dpo_lab.models.hub import fetched
from dpo_lab.models.load import plain_errors, without_dropout
from dpo_lab.models.spec import NEITHER, ModelSpec
from dpo_lab.models.storage import Storage
from dpo_lab.models.tiny import architecture


@dataclass(frozen=True)
class Held:
    """What the weights of a policy take, in bytes."""

    weights: int
    """All of them as they are held, an adapter's too."""
    parameters: int
    """How many weights the base has."""
    trained: int
    """How many weights are trained."""
    trained_bytes: int
    """What these take; their gradients take the same again."""
    largest: int
    """How many weights the largest trained tensor has."""
    quantised: int
    """Bytes in their file of the weights that are quantised, in the number format of the file."""


def architecture_of(spec: ModelSpec) -> Any:
    """Return a model's configuration; of a Hub model its config.json alone is fetched.

    Raises:
        ConfigError: if there is none, or the model is neither pretrained nor made here.
    """
    if spec.recipe:
        return architecture(spec.recipe, spec.recipe.vocab_size)
    if not spec.pretrained:
        raise ConfigError(f"model: {type(spec).__name__} {NEITHER}")
    from transformers import AutoConfig

    path, revision = spec.pretrained.path, spec.pretrained.revision
    with plain_errors(path):
        config = AutoConfig.from_pretrained(str(fetched(base_of(path), revision, small=True)), trust_remote_code=False)
    return without_dropout(config)


def with_layers(config: Any, layers: int) -> Any:
    """Return a configuration of so many layers."""
    made = copy.deepcopy(config)
    made.num_hidden_layers = layers
    if getattr(made, "layer_types", None):
        made.layer_types = made.layer_types[:layers]
    return made


def outline(config: Any, spec: ModelSpec, storage: Storage) -> nn.Module:
    """Return the policy that training would have, with shapes and number formats and no numbers (the device `meta`).

    The layers of a quantised base are `Unpacked`: they compute as theirs do, and are counted by `held`.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(  # it writes the number format into what it is given
            copy.deepcopy(config), dtype=storage.dtype, trust_remote_code=False
        )
    if storage.quant.bits:
        for name, module in model.named_modules():
            if type(module) is nn.Linear and not name.endswith("lm_head"):
                module.__class__ = Unpacked
    policy = spec.adapter.attach(model.train(), 0)
    if storage.adapter_dtype != torch.float32:
        held_in(policy, storage.adapter_dtype)
    if spec.checkpointing is True:
        recompute_layers(policy, keep_draws=False)
    return policy


def held(config: Any, model: nn.Module, storage: Storage) -> Held:
    """Return what the weights of an outline take."""
    packed = {id(module.weight) for module in model.modules() if isinstance(module, Unpacked)}
    bits = storage.quant.bits_in_memory
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    weights, parameters, quantised = 0.0, 0, 0
    for name, weight in model.named_parameters():
        weights += weight.numel() * (bits / 8 if id(weight) in packed else weight.element_size())
        quantised += weight.numel() if id(weight) in packed else 0
        parameters += weight.numel() if "lora_" not in name and "modules_to_save" not in name else 0
    return Held(
        weights=int(weights),
        parameters=parameters,
        trained=sum(weight.numel() for weight in trained),
        trained_bytes=sum(weight.numel() * weight.element_size() for weight in trained),
        largest=max((weight.numel() for weight in trained), default=0),
        quantised=quantised * bytes_in_file(config),
    )


def bytes_in_file(config: Any) -> int:
    """Return the bytes of a weight on disk."""
    return torch.empty((), dtype=getattr(config, "dtype", None) or torch.float32).element_size()


class Unpacked(nn.Linear):
    """Stands for a quantised layer: in each pass its weight is made anew in the type of the inputs, and not kept."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the outputs."""
        outputs: Tensor = UnpackedProduct.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return outputs if self.bias is None else outputs + self.bias


class UnpackedProduct(torch.autograd.Function):
    """x W^T with W made anew in both passes, as bitsandbytes' MatMul4Bit does."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the product."""
        ctx.weight = weight
        return inputs @ weight.to(inputs.dtype, copy=True).t()

    @staticmethod
    def backward(ctx: Any, by_outputs: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the inputs."""
        return by_outputs @ ctx.weight.to(by_outputs.dtype, copy=True), None
