"""Speed and memory of every row, by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpo_lab.figures import TRAINING
from dpo_lab.models.adapter import LoRA
from dpo_lab.training.callbacks import Throughput
from dpo_lab.training.throughput import Counter, flops_per_token, peak_bytes
from tests.training.stopping import rows_of, some_pairs, tiny, train

# of one layer of stopping.tiny: q and o 16 x 16, k and v 16 x 8, gate, up and down 16 x 24
LAYER = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24


def test_a_trained_weight_costs_six_operations_a_token() -> None:
    assert flops_per_token(tiny()) == 6 * 2 * LAYER


def test_a_frozen_weight_costs_four_and_its_adapter_six() -> None:
    policy = LoRA(rank=2, alpha=4).attach(tiny(), seed=0)
    adapters = sum(weight.numel() for weight in policy.parameters() if weight.requires_grad)
    assert flops_per_token(policy) == 4 * 2 * LAYER + 6 * adapters


class Module:
    """Stands in for a module; `taken` are pairs and tokens of the newest step."""

    item, device, policy = "pair", torch.device("cpu"), torch.nn.Linear(10, 5, bias=False)
    taken = (0, 0)


def test_speeds_are_counts_since_the_row_before_over_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.training.throughput.StepModule", Module)
    module: Any = Module()
    now = [100.0]
    monkeypatch.setattr("dpo_lab.training.throughput.time", SimpleNamespace(monotonic=lambda: now[0]))
    counter, trainer = Counter(), SimpleNamespace()
    counter.on_train_start(trainer, module)  # type: ignore[arg-type]
    for module.taken in ((4, 50), (4, 50)):
        counter.count(module)
    now[0] = 104.0
    figures = counter.figures(module)
    assert figures["time/pairs_per_second"] == 8 / 4
    assert figures["time/tokens_per_second"] == 100 / 4
    assert figures["time/tflops_per_second"] == pytest.approx(6 * 50 * 100 / 4 / 1e12)
    module.taken = (1, 7)
    counter.count(module)
    now[0] = 106.0
    assert counter.figures(module)["time/tokens_per_second"] == 7 / 2


def test_every_row_has_them_and_each_has_a_meaning(tmp_path: Path) -> None:
    train(some_pairs(), tmp_path / "with", Throughput())
    names = [each.name for each in TRAINING if not each.name.startswith("fp16/")]
    assert all(list(row) == ["step", *names] for row in rows_of(tmp_path / "with"))
    assert all(row[name] > 0 for row in rows_of(tmp_path / "with") for name in row if name.startswith(("time/", "memory/")))
    train(some_pairs(), tmp_path / "without")
    assert not any(name.startswith(("time/", "memory/")) for row in rows_of(tmp_path / "without") for name in row)


def test_the_peak_is_that_of_the_process_in_bytes() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc here to compare with")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    assert peak_bytes(torch.device("cpu")) == pytest.approx(int(line.split()[1]) * 1024, rel=0.5)
