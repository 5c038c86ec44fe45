"""Training in fp16-mixed: the numbers of fp32 but for rounding, and steps that overflow change nothing and are counted."""

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.models.storage import storage_of
from dpo_lab.scoring.head import head_logps
from dpo_lab.scoring.rounding import BF16_LEAST, FP16_FINER, rounding
from dpo_lab.scoring.score import score
from tests.training.stopping import STEPS, KillAfter, Killed, some_pairs, tiny, train

FP16, CPU = Precision(mode="fp16-mixed"), torch.device("cpu")


def scaled_by(monkeypatch: pytest.MonkeyPatch, first: float) -> None:
    """Let losses be multiplied by another number at first."""
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=first))


def test_it_is_the_training_in_fp32_but_for_rounding(tmp_path: Path) -> None:
    half, whole = (train(some_pairs(), tmp_path / mode, precision=Precision(mode=mode)) for mode in ("fp16-mixed", "fp32"))
    assert [row["fp16/skipped_steps"] for row in half.rows] == [0] * STEPS
    assert half.notes == []
    for row, exact in zip(half.rows, whole.rows, strict=True):
        assert row["loss"] == pytest.approx(exact["loss"], abs=1e-3)
        assert row["grad_norm"] == pytest.approx(exact["grad_norm"], rel=1e-3)
    assert half.rows != whole.rows, "its products are rounded"
    assert {weight.dtype for weight in half.weights.values()} == {torch.float32}


def test_a_step_that_overflows_changes_nothing_halves_the_scale_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled_by(monkeypatch, 2.0**20)
    outcome = train(some_pairs(), tmp_path, precision=FP16)
    skipped = [row["fp16/skipped_steps"] for row in outcome.rows]
    assert skipped == [1, 2, 3, 3, 3, 3]
    assert [row["fp16/loss_scale"] for row in outcome.rows] == [2.0**19, 2.0**18, *[2.0**17] * 4]
    assert [row["loss"] for row in outcome.rows[:4]] == pytest.approx([math.log(2)] * 4), "four steps start from the same weights"
    assert outcome.rows[3]["lr"] == 1e-2, "the schedule waits too"
    assert outcome.notes == ["fp16: 3 of 6 steps skipped, their gradients overflowed; loss scale at the end 131072"]


def test_the_scale_changes_no_step_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    for power in (8, 14):
        scaled_by(monkeypatch, 2.0**power)
        norms.append([row["grad_norm"] for row in train(some_pairs(), tmp_path / f"{power}", precision=FP16).rows])
        monkeypatch.undo()
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_killed_after_a_skipped_step_it_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_by(monkeypatch, 2.0**18)
    undisturbed = train(some_pairs(), tmp_path / "whole", precision=FP16)
    assert undisturbed.rows[-1]["fp16/skipped_steps"] == 1
    for step in (2, 3, 5):
        with pytest.raises(Killed):
            train(some_pairs(), tmp_path / f"{step}", KillAfter(step=step), precision=FP16)
        train(some_pairs(), tmp_path / f"{step}", precision=FP16).assert_equals(undisturbed)


def test_where_every_step_overflows_the_run_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_by(monkeypatch, 2.0**24)
    with pytest.raises(
        RunError, match=r"^fp16: the gradients of all 6 steps overflowed, down to a loss scale of 262144, .*fp32\.$"
    ):
        train(some_pairs(), tmp_path, precision=FP16)


def test_what_no_scale_mends_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_by(monkeypatch, 1.0)
    monkeypatch.setattr("dpo_lab.losses.dpo.DPOLoss.__call__", lambda self, policy, reference: policy.margin * math.inf)
    with pytest.raises(RunError, match="step 1: the gradient is not finite"):
        train(some_pairs(), tmp_path, precision=FP16)


def test_logits_and_log_probabilities_are_float32_of_factors_in_fp16() -> None:
    torch.manual_seed(0)
    head, hidden = torch.nn.Linear(16, 64, bias=False), torch.randn(9, 16)
    targets = torch.arange(9)
    with torch.autocast("cpu", torch.float16):
        got, _ = head_logps(head, hidden, targets)
    logits: Tensor = hidden.half().float() @ head.weight.half().float().t()
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0], rtol=0, atol=1e-6)


def test_the_step_0_bound_is_an_eighth_of_that_of_bf16_and_holds() -> None:
    model, store, layout = tiny().eval(), some_pairs(), PaddedLayout()
    responses = list(range(8))
    with torch.no_grad(), FP16.autocast(CPU):
        together = score(model, layout.rows(store, responses)).sums
        alone = torch.cat([score(model, layout.rows(store, [response])).sums for response in responses])
        allowed = rounding(model, torch.tensor([5, 4]))
    assert allowed.tolist() == pytest.approx([BF16_LEAST / FP16_FINER] * 2)
    assert float((together - alone).abs().max()) < float(allowed[0])


@pytest.mark.parametrize(("adapter", "dtype"), [(LoRA(), torch.float16), (NoAdapter(), torch.float32)], ids=["lora", "full"])
def test_a_frozen_base_is_held_in_fp16_and_a_trained_one_in_fp32(adapter: LoRA | NoAdapter, dtype: torch.dtype) -> None:
    spec = PretrainedModel(path="base", licence="MIT", adapter=adapter)
    assert storage_of(spec, FP16, CPU).dtype == dtype
