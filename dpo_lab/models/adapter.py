"""Adapters: which weights are trained. With lora_linear.py the only place that imports peft."""

import copy
import logging
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import nn

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.models.adapted import (
    REFERENCE,
    TRAINED,
    adapted_layers,
    and_tied,
    beside,
    full_names,
    in_float32,
    refuse_quantised,
    refuse_unadaptable,
    saved_beside,
    tied_names,
)
from dpo_lab.plain_data import as_typed


class Adapter(Component, ABC):
    """Which weights are trained."""

    trains_all: ClassVar[bool] = False
    """True if every weight is trained, False if the base stays as it was."""
    dora: bool = False
    """Whether the length of every output's weights is trained too."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name on the end screen."""

    @abstractmethod
    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the policy to train, made from a model that has no trainable part yet or an adapter from before.

        Args:
            seed: of what starts random.

        Raises:
            ConfigError: if the model holds an adapter that is not this one.
        """


@component
class NoAdapter(Adapter):
    """Every weight is trained."""

    trains_all: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The name of its yaml."""
        return "none"

    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with every weight trainable."""
        if hasattr(model, "peft_config"):
            raise ConfigError("adapter=none: the model to start from has an adapter on it; use adapter=lora to train that on.")
        return model.requires_grad_(True)


@component
class LoRA(Adapter):
    """Low-rank adapters, Hu et al. 2021, eq. 3 (arXiv:2106.09685): W x + (alpha / rank) B A x, B starting at 0.

    DoRA (Liu et al. 2024, eq. 5, arXiv:2402.09353) also trains the length m of every output's weights:
    m (W + scale B A) / |W + scale B A|, the length below constant in the gradient (section 4.3). It starts as the base, exactly.
    rsLoRA (Kalajdzievski 2023, arXiv:2312.03732) has the scale alpha / sqrt(rank), so that a larger rank does not learn less.
    """

    rank: PositiveInt = 16
    """Inner dimension of B A."""
    alpha: PositiveInt = 32
    """Scale of the update is alpha / rank; 2 x rank is common."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On the adapter's input. Above 0, the step-0 loss is still ln 2 (B = 0), later rounds' is not."""
    dora: bool = False
    """Train the lengths too."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank)."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of modules, or `all-linear` for every linear layer but the head."""
    modules_to_save: tuple[str, ...] = ()
    """Names of modules that are trained in full and saved with the adapter: embed_tokens and lm_head for new tokens. Where a
    model ties the two, naming one trains both, and they stay tied."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_name(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) and given != "all-linear" else given

    @field_validator("modules_to_save")
    @classmethod
    def _in_full_or_by_an_adapter(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        targets = info.data.get("target_modules", ())
        if both := {*names} & (set() if isinstance(targets, str) else {*targets}):
            raise ValueError(f"{', '.join(sorted(both))} stands in target_modules too; leave it out of one of the two")
        return names

    @property
    def label(self) -> str:
        """The name of its yaml; both where it is both."""
        return " ".join(name for name in ("dora", "rslora") if getattr(self, name)) or "lora"

    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with its base frozen and this adapter on it; an adapter from before is trained on."""
        quiet_peft()
        from peft import LoraConfig, PeftModel, get_peft_model

        if isinstance(model, PeftModel):
            self._refuse_another(model)
            return model
        model.requires_grad_(False)
        saved = self._saved(model)
        refuse_quantised(model, saved)
        targets = self.target_modules
        if not isinstance(targets, str):
            full_names(model, targets, "target_modules")  # peft's own error names none of those that there are
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            use_dora=self.dora,
            use_rslora=self.rslora,
            target_modules=targets if isinstance(targets, str) else list(targets),
            modules_to_save=sorted(saved) or None,
            ensure_weight_tying=bool(saved & tied_names(model)),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():  # peft draws A from torch's global generator
            torch.manual_seed(seed)
            try:
                adapted = get_peft_model(model, config)
            except ValueError as error:  # a module that is not linear
                raise ConfigError(f"adapter.target_modules={as_typed(targets)}: {error}") from error
        refuse_unadaptable(adapted, adapted_layers(adapted))
        begin_as_base(adapted, TRAINED)
        return fused(adapted)

    def _refuse_another(self, model: Any) -> None:
        """Raise ConfigError if the adapter on a model is not this one."""
        config = model.peft_config[TRAINED]
        kind = config.peft_type.value
        if kind != "LORA" or config.bias != "none" or config.trainable_token_indices:
            what = f"an adapter of the kind {kind}" if kind != "LORA" else "one that also trains biases or single tokens"
            raise ConfigError(
                f"adapter: the model to start from has {what}, which is not known here. Merge it into its base first."
            )
        has = {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout}
        has |= {"dora": config.use_dora, "rslora": config.use_rslora}
        has |= {"target_modules": last_parts(adapted_layers(model)), "modules_to_save": last_parts(saved_beside(model))}
        same = {name: getattr(self, name) == value for name, value in has.items()}
        same["target_modules"] = self._is_on(model)
        same["modules_to_save"] = self._saved(model.get_base_model()) == saved_beside(model)
        if not all(same.values()):
            asked, there = (" ".join(f"{name}={as_typed(settings[name])}" for name in has) for settings in (vars(self), has))
            remedy = " ".join(f"adapter.{name}={as_typed(has[name])}" for name, equal in same.items() if not equal)
            raise ConfigError(
                f"adapter: {asked} is asked for, and the model to start from has an adapter with {there}, which is trained on. "
                f"Use {remedy}."
            )

    def _saved(self, model: nn.Module) -> set[str]:
        """Return the full names of a model's modules that are trained in full."""
        return and_tied(model, full_names(model, self.modules_to_save, "modules_to_save"))

    def _is_on(self, model: Any) -> bool:
        """Return whether a model's adapter is on these modules; `all-linear` takes over what it is on."""
        if isinstance(self.target_modules, str):
            return True
        base = model.get_base_model()
        return full_names(base, self.target_modules, "target_modules") - saved_beside(model) == adapted_layers(model)


def last_parts(names: set[str]) -> list[str]:
    """Return the last parts of dotted names, each once."""
    return sorted({name.rpartition(".")[2] for name in names})


def load_adapter(base: nn.Module, directory: Path) -> nn.Module:
    """Return the base model with a saved adapter on it, trainable."""
    quiet_peft()
    from peft import PeftModel

    try:
        model = PeftModel.from_pretrained(base, str(directory), is_trainable=True)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise ConfigError(
            f"model.path={directory}: the adapter was made on a model of other sizes ({str(error).splitlines()[-1].strip()}). "
            "If it has new tokens, save its base with as many rows in the embeddings, and name that in adapter_config.json."
        ) from error
    in_float32(model, TRAINED)
    read_weights(model, directory, TRAINED)  # again: peft has read them into tensors of the base's type
    return fused(model)


def read_weights(model: Any, directory: Path, name: str) -> None:
    """Read a saved adapter's weights into an adapter of the same kind that is on a model."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(directory), device="cpu"), adapter_name=name)


def begin_as_base(model: nn.Module, name: str) -> None:
    """Let an adapter that was just made be its base in float32; peft makes it in the base's type, and then converts it.

    DoRA's lengths, rounded to half precision, would begin up to 0.4 % away.
    """
    from peft.utils.integrations import dequantize_module_weight

    in_float32(model, name)
    layers: Any = model.modules()
    for layer in layers:
        if name in getattr(layer, "lora_magnitude_vector", ()):
            weight = dequantize_module_weight(layer.base_layer).detach()
            if layer.lora_magnitude_vector[name].fan_in_fan_out:  # GPT-2's layers and embeddings: a row for each input
                weight = weight.T
            lengths = torch.linalg.norm(weight.to(torch.promote_types(weight.dtype, torch.float32)), dim=1)
            layer.lora_magnitude_vector[name].weight.data = lengths


def fused(model: nn.Module) -> nn.Module:
    """Let the model's plain LoRA layers compute in one function each; see lora_linear.py."""
    from dpo_lab.models.lora_linear import FusedLinear

    return FusedLinear.put_into(model)


def save_adapter(model: Any, directory: Path, base_path: str, revision: str | None = None) -> bool:
    """Write a model's adapter in PEFT's format, naming its base; return False if it has none."""
    if not hasattr(model, "peft_config"):
        return False
    for config in model.peft_config.values():
        config.base_model_name_or_path, config.revision = base_path, revision  # so that plain peft finds the base again
    # embeddings are never resized here, and to compare them with the base's peft would ask the Hub
    model.save_pretrained(str(directory), selected_adapters=[TRAINED], save_embedding_layers=False)
    return True


def add_reference_adapter(model: nn.Module, directory: Path | None) -> None:
    """Put an adapter of the same kind beside the one that is trained, frozen and not in use.

    Args:
        directory: where it was saved; None for the base as an adapter: B = 0, the policy's A, lengths and modules of the base.
    """
    quiet_peft()
    adapted: Any = model
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ensure_weight_tying.*")  # found out with the first adapter, and in its config
        # not load_adapter: where embeddings are tied, the second adapter silently gets no head (tried with peft 0.21.2; tying is
        # open in https://github.com/huggingface/peft/issues/2864)
        adapted.add_adapter(REFERENCE, copy.deepcopy(adapted.peft_config[TRAINED]))
    begin_as_base(model, REFERENCE)
    if directory:
        read_weights(model, directory, REFERENCE)
    else:
        for name, (trained, reference) in beside(model).items():
            if "lora_A" in name or "lora_embedding_A" in name:
                reference.data.copy_(trained.data)


def quiet_peft() -> None:
    """Silence what peft's import and its use of transformers 5 say on every run and nobody can act on."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # a kernel package for 4-bit weights
    warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)  # GPT-2's layers, and peft sets it itself
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)  # peft 0.21 reads the old name,
    # which transformers 6 removes: gone with the first peft that reads is_activation_checkpointing
