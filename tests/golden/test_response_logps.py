"""Golden parity: log-probabilities of whole responses from logits, as the first DPO code has them, through our own scoring."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score


class Given(nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        """Return the logits, whatever the ids."""
        return SimpleNamespace(logits=self.logits)


def scored(logits: Tensor, labels: Tensor) -> ResponseLogps:
    """Return the log-probabilities of the labelled tokens of each row: -100 marks prompt and padding."""
    of_response = labels[:, 1:] != -100
    rows, before = of_response.nonzero(as_tuple=True)
    batch = ResponseBatch(
        inputs={"input_ids": labels.clamp(min=0)},
        predictors=rows * labels.shape[1] + before,  # the position before a token predicts it
        targets=labels[rows, before + 1],
        counts=of_response.sum(1),
        responses=torch.arange(len(labels)),
    )
    return score(Given(logits), batch, own_logits=True)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 2e-6)])
def test_sums_means_and_gradients_of_the_small_batch(shared_data: Path, precision: str, tolerance: float) -> None:
    golden = json.loads((shared_data / "golden" / "eric_batch_logps.json").read_text())
    theirs = golden["results"][precision]
    logits = torch.tensor(golden["inputs"]["logits"], dtype=getattr(torch, precision)).requires_grad_()
    logps = scored(logits, torch.tensor(golden["inputs"]["labels"]))
    assert logps.counts.tolist() == golden["n_counted_tokens"]
    averages = [float("nan") if value is None else value for value in theirs["average"]]  # of no tokens at all
    (gradient,) = torch.autograd.grad(logps.sums.sum(), logits)
    assert logps.sums.tolist() == pytest.approx(theirs["sum"], rel=tolerance)
    assert (logps.sums / logps.counts).tolist() == pytest.approx(averages, rel=tolerance, nan_ok=True)
    assert gradient.abs().sum((1, 2)).tolist() == pytest.approx(theirs["grad_logits_abs_sum_per_row_of_sum"], rel=tolerance)
    assert len(theirs) == 3  # that is all that the file holds


def test_sums_and_means_of_the_large_batch(shared_data: Path) -> None:
    golden = load_file(shared_data / "golden" / "eric_batch_logps_large.safetensors")
    logits, labels = golden.pop("logits_float32"), golden.pop("labels")
    exact = scored(logits.double(), labels)
    ours = {
        "sum_float64": (exact.sums, 1e-10),
        "average_float64": (exact.sums / exact.counts, 1e-10),
        "sum_float32": (scored(logits, labels).sums, 1e-6),
        "sum_float32_of_bfloat16_rounded_logits": (scored(logits.bfloat16(), labels).sums, 1e-6),
    }
    assert ours.keys() == golden.keys()
    for name, (sums, tolerance) in ours.items():
        assert sums.dtype == golden[name].dtype
        assert sums.tolist() == pytest.approx(golden[name].tolist(), rel=tolerance, nan_ok=True), name
