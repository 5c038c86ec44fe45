"""Two processes that share every step do what one does alone, and end with the one that started them."""

import copy
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.components import RunError, component
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.aot import AOTLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.training.batches import Batches, item_batches, share_of
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping, RunCallback
from dpo_lab.training.fit import fit
from dpo_lab.training.group import Group, buckets
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.processes import Meet, together
from dpo_lab.training.settings import TrainerSettings
from tests.training.stopping import some_pairs, tiny

CPU = torch.device("cpu")
BATCH = 5  # 11 pairs: steps of 5, 5 and 1, of which the other process has none


@component
class Overflows(DPOLoss):
    """A loss that is not finite."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        return super().__call__(policy, reference) * float("inf")


@component
class Case:
    """What is trained."""

    adapter: Adapter = NoAdapter()
    loss: PreferenceLoss = DPOLoss(beta=0.5)
    ends: tuple[RunCallback, ...] = ()


def prepared(case: Case, group: Group) -> tuple[PreferenceModule, Batches]:
    """Return a float64 model, whose rounding is far below what is compared, and its batches."""
    layout, store, model = PrefixLayout(), some_pairs(), tiny().double()
    reference = FrozenScorer(copy.deepcopy(model))
    fitted(model, layout, store)
    fitted(reference.model, layout, store)
    policy = case.adapter.attach(model, seed=1).double()
    batches = item_batches(store, layout, batch_size=BATCH, token_budget=40, epochs=2, seed=5, group=group)
    return PreferenceModule(policy, reference, case.loss, AdamW(lr=1e-2), total_steps=batches.total_steps, seed=2), batches


def fit_share(case: Case, directory: Path, group: Group, rows: list[dict[str, float]]) -> PreferenceModule:
    module, batches = prepared(case, Group(group.rank, group.size))
    settings = TrainerSettings(accelerator="cpu", batch_size=BATCH)
    part = Part("test", batches.total_steps)
    precision, callbacks = Precision(mode="fp32"), [*case.ends, *([] if group.rank else [Checkpoint(every=1, keep=9)])]
    fit(
        module,
        batches,
        settings,
        precision,
        part=part,
        directory=directory,
        record=rows.append,
        callbacks=callbacks,
        group=group,
    )
    return module


def train_beside(case: Case, directory: Path, group: Group, meet: Meet) -> None:
    """Train as the other process does."""
    with meet():
        fit_share(case, directory, group, [])


def trained(case: Case, directory: Path, size: int) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Return the rows and the weights of a training by so many processes."""
    directory.mkdir(exist_ok=True)
    rows: list[dict[str, float]] = []
    with together(size, CPU, partial(train_beside, case, directory)) as group:
        module = fit_share(case, directory, group, rows)
    timeless = [{name: value for name, value in row.items() if "time/" not in name} for row in rows]
    return timeless, {name: weight.clone() for name, weight in module.state_dict().items()}


def assert_close(one: Any, other: Any) -> None:
    assert len(one[0]) == len(other[0]) > 0
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    for name, weight in one[1].items():
        assert float((weight - other[1][name]).norm()) <= 1e-6 * float(other[1][name].norm()), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [Case(), Case(adapter=LoRA(rank=2), loss=AOTLoss(beta=0.5))],
    ids=["full", "lora and a loss that couples pairs"],
)
def test_two_processes_equal_one_with_twice_the_batch_also_where_one_has_no_pair(tmp_path: Path, case: Case) -> None:
    assert_close(trained(case, tmp_path / "two", 2), trained(case, tmp_path / "one", 1))


@pytest.mark.slow
def test_two_processes_that_were_stopped_go_on_to_the_bit(tmp_path: Path) -> None:
    rows, weights = trained(Case(), tmp_path, 2)
    for kept in (tmp_path / "checkpoints").glob("*.ckpt"):
        if kept.name > "step_0000004.ckpt":  # the first step of the second epoch
            kept.unlink()
    again, again_weights = trained(Case(), tmp_path, 2)
    assert again == rows[4:]
    assert all(torch.equal(weight, again_weights[name]) for name, weight in weights.items())


@pytest.mark.slow
def test_two_processes_end_early_at_the_same_step_also_when_they_go_on(tmp_path: Path) -> None:
    case = Case(ends=(EarlyStopping(metric="lr", mode="max", window=1, patience=2),))
    one, two = trained(case, tmp_path / "one", 1), trained(case, tmp_path / "two", 2)
    assert 2 < len(one[0]) < 6
    assert_close(two, one)
    for kept in (tmp_path / "two" / "checkpoints").glob("*.ckpt"):
        if kept.name > "step_0000001.ckpt":
            kept.unlink()
    again, weights = trained(case, tmp_path / "two", 2)
    assert again == two[0][1:]
    assert all(torch.equal(weight, weights[name]) for name, weight in two[1].items())


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_written_out_with_the_pairs_of_every_process(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 1: the gradient is not finite.*Its 5 pairs"):
        trained(Case(loss=Overflows(beta=0.5)), tmp_path, 2)


def fail(group: Group, meet: Meet) -> None:
    """Fail before meeting."""
    raise ValueError("no such model")


def lose(group: Group, meet: Meet) -> None:
    """End in the middle of what is done together."""
    with meet() as met:
        met.totals([1], CPU)
        os._exit(3)


@pytest.mark.slow
def test_a_process_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(RunError, match="process 2 of 2 failed, exit code 1: ValueError: no such model"), together(2, CPU, fail):
        pass
    with pytest.raises(RunError, match="process 2 of 2 failed, exit code 3"), together(2, CPU, lose) as group:
        [group.totals([1], CPU) for _ in range(2)]


def wait_for_the_end(group: Group, meet: Meet) -> None:
    """Say who this is, and never end by itself."""
    Path(os.environ["SAID"]).write_text(str(os.getpid()))
    with meet():
        signal.pause()


@pytest.mark.slow
def test_a_killed_process_leaves_none_behind(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    code = (
        "import os, torch; from dpo_lab.training.processes import together; from tests.training.test_together import *\n"
        "with together(2, CPU, wait_for_the_end): os.kill(os.getpid(), 9)"
    )
    around = {**os.environ, "SAID": str(said), "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=around, check=False).returncode == -signal.SIGKILL
    pid = int(said.read_text())
    for _ in range(1000):
        if not alive(pid):
            return
        signal.sigtimedwait([], 0.02)
    pytest.fail("the other process lives on")


def alive(pid: int) -> bool:
    """Return whether a process is there and not a zombie that nobody has asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_a_step_are_its_pairs_each_once(size: int) -> None:
    store = some_pairs()
    step = [7, 1, 4, 10, 3]
    shares = [share_of(step, store, Group(rank, size)) for rank in range(size)]
    assert sorted(pair for share in shares for pair in share) == sorted(step)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1  # rows are of one length here


def test_gradients_are_sent_in_buckets_of_one_format_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.training.group.BUCKET", 10)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (2, torch.bfloat16)]
    weights = [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size, dtype in sizes]
    assert [[each.numel() for each in bucket] for bucket in buckets(weights)] == [[4, 6], [1], [30], [2]]
