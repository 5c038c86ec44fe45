"""How the base weights of a run are held in memory."""

from typing import Any

import pytest
import torch

from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.models.storage import storage_of

CPU, FULL, HALF = torch.device("cpu"), torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("dtype", "mode", "adapter", "base", "trained"),
    [
        ("auto", "bf16-mixed", LoRA(), HALF, FULL),  # frozen weights are rounded once, as autocast would at every step
        ("auto", "bf16-mixed", NoAdapter(), FULL, FULL),
        ("auto", "fp32", LoRA(), FULL, FULL),
        ("fp32", "bf16-mixed", LoRA(), FULL, FULL),
        ("bf16", "fp32", LoRA(), HALF, FULL),
        ("auto", "bf16-true", NoAdapter(), HALF, HALF),
        ("auto", "bf16-true", LoRA(), HALF, HALF),
    ],
)
def test_a_frozen_base_is_in_bf16_where_its_adapter_is_trained_in_it(
    dtype: Any, mode: Any, adapter: Any, base: torch.dtype, trained: torch.dtype
) -> None:
    spec = PretrainedModel(path="owner/name", licence="none", revision="v1", dtype=dtype, adapter=adapter)
    held = storage_of(spec, Precision(mode=mode), CPU)
    assert (held.dtype, held.adapter_dtype, held.revision) == (base, trained, "v1")
