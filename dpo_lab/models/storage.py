"""How the weights of a base are held in memory: decided for a run, recorded beside its policy, and read back."""

from dataclasses import dataclass
from typing import Any

import torch

from dpo_lab.artifacts import content_id
from dpo_lab.components import ConfigError
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import EightBit, FourBit, NoQuant, Quant
from dpo_lab.models.spec import ModelSpec

KINDS: dict[str, type[Quant]] = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (NoQuant, FourBit, EightBit)}


@dataclass(frozen=True)
class Storage:
    """How a model's base weights are held in memory."""

    quant: Quant = NoQuant()  # noqa: RUF009
    dtype: torch.dtype = torch.float32
    """Number format of the base's weights, and of the products of those that are quantised."""
    revision: str | None = None
    """Commit or tag of a base on the Hub."""
    adapter_dtype: torch.dtype = torch.float32
    """Number format of an adapter's weights."""

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.quant.bits}-bit weights, products in {kind}" if self.quant.bits else f"weights in {kind}"


def storage_of(spec: ModelSpec, precision: Precision, device: torch.device) -> Storage:
    """Return how the base weights of a run are held."""
    pretrained = spec.pretrained
    revision = pretrained.revision if pretrained else None
    if precision.weights != torch.float32:
        return Storage(spec.quant, precision.weights, revision, adapter_dtype=precision.weights)
    if not pretrained:
        return Storage(spec.quant)
    named = {"fp32": torch.float32, "bf16": torch.bfloat16}.get(pretrained.dtype)
    frozen = None if spec.adapter.trains_all else precision.in_products(device)
    return Storage(spec.quant, named or frozen or torch.float32, revision)


def id_of(model: str, storage: Storage) -> str:
    """Return the id of a model that is held in some way; as it is on disk, or in fp32, it is that model."""
    if not storage.quant.bits and storage.dtype == torch.float32:
        return model
    formats = [str(storage.dtype), str(storage.adapter_dtype)]
    return content_id("held", {"model": model, "quant": storage.quant.content(), "dtype": formats})


def record_of(storage: Storage, base: str) -> dict[str, Any]:
    """Return what has to be known to hold a base as it was held in training.

    Args:
        base: directory or Hub id.

    >>> record_of(Storage(FourBit(double=False), torch.bfloat16), "my_model")["quant"]
    {'class': 'dpo_lab.models.quant.FourBit', 'double': False}
    """
    return {
        "base": base,
        "revision": storage.revision,
        "quant": storage.quant.content(),
        "dtype": str(storage.dtype).removeprefix("torch."),
    }


def storage_from(record: dict[str, Any]) -> Storage:
    """Return how a base was held; ConfigError if it was by the user's own quantisation, which is not found from here."""
    fields = dict(record["quant"])
    name = fields.pop("class")
    if name not in KINDS:
        raise ConfigError(
            f"the policy's base was held by {name}, which this package does not know ({', '.join(KINDS)}), so it cannot be "
            "held so again here. export.base=original merges into the weights on disk."
        )
    return Storage(KINDS[name](**fields), getattr(torch, record["dtype"]), record["revision"])
