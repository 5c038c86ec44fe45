"""How a policy's base was held in training, as plain data beside the policy, and back."""

from typing import Any

import torch

from dpo_lab.components import ConfigError
from dpo_lab.models.load import Storage
from dpo_lab.models.quant import EightBit, FourBit, NoQuant, Quant

KINDS: dict[str, type[Quant]] = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (NoQuant, FourBit, EightBit)}


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
    """Return how a base was held; ConfigError if it was by a quantisation of one's own, which is not found from here."""
    fields = dict(record["quant"])
    name = fields.pop("class")
    if name not in KINDS:
        raise ConfigError(
            f"the policy's base was held by {name}, which is none of this package ({', '.join(KINDS)}), so it cannot be held so "
            "again here. export.base=original merges into the weights on disk."
        )
    return Storage(KINDS[name](**fields), getattr(torch, record["dtype"]), record["revision"])
