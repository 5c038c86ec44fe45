"""The check for a GPU, as a dry run: it gates on equality, counts operations, loses nothing to a bad job, and ends in time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.models.adapter import LoRA
from scripts.bench import gpu_check, gpu_jobs, gpu_measure, gpu_model, gpu_peer, gpu_report, gpu_worker, task

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SCRIPT = ROOT / "scripts" / "gpu_check.sh"
PRETENDED = """
import json, os, sys, time
job = {"machine": {"device": "NVIDIA H200", "on_gpu": True, "peak_tflops": 1000.0, "memory_gib": 139.8,
                   "budget": 8192, "python": "3.12",
                   "packages": {"torch": "2.11.0", "trl": None}, "without_bitsandbytes": "", "trl": None,
                   "lengths": ["hh", "long"]},
       "gemm": {"tflops": 800.0}, "shapes": {"first_seconds": 9.0, "new_seconds": 0.002, "again_seconds": 0.001}}
speed = {"varlen": 30.0, "flex": 20.0, "sdpa": 10.0}
print(f"a library talks, process {os.getpid()}", file=sys.stderr)
for line in sys.stdin:
    asked = json.loads(line)
    kind, answer = asked["job"], job.get(asked["job"])
    if kind == "equality":
        fine = (asked["layout"], asked["kernel"], asked["precision"]) != ("packed", "varlen", "bf16")
        answer = {"equal": fine, "gap": 1e-5 if fine else 0.5, "allowed": 1e-4}
    if kind == "hang":
        time.sleep(600)
    if kind == "ours":
        if asked["quant"] == os.environ.get("HANGS_WITH"):
            time.sleep(600)
        row = (asked["layout"], asked["kernel"], asked["lengths"], asked["quant"])
        slower = 1.25 if asked["checkpointing"] else 1.0
        if row == ("prefix", "flex", "hh", "none"):
            answer = {"failed": "out of memory at 139 GiB"}
        elif row == ("prefix", "flex", "long", "none"):
            print("Segmentation fault", file=sys.stderr, flush=True)
            os._exit(11)
        elif row == ("prefix", "sdpa", "long", "4bit"):
            answer = {"failed": "AcceleratorError: CUDA error: an illegal memory access", "broken": True}
        else:
            answer = {"pairs_per_second": (speed[asked["kernel"]] + (asked["layout"] == "prefix")) / slower,
                      "tokens_per_second": 9000.0, "forwarded_per_second": 5000.0, "operations_per_second": 4e14,
                      "peak_gib": 71.5 / slower, "reference_seconds": 0.5, "loss": 0.6931, "skipped_steps": 0}
    print(json.dumps(answer), flush=True)
"""


class Pretended:
    """A check whose jobs are done by a process that needs no torch: the command that runs it, and what it leaves."""

    def __init__(self, directory: Path) -> None:
        self.out = directory / "check.json"
        worker = directory / "worker.py"
        worker.write_text(PRETENDED, encoding="utf-8")
        self.worker = (sys.executable, str(worker))
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from scripts.bench import gpu_check, gpu_jobs; "
            f"gpu_jobs.Worker.__init__.__kwdefaults__.update(command={self.worker!r}); sys.exit(gpu_check.main())"
        )
        self.command = [sys.executable, "-c", code, "--out", str(self.out)]

    @property
    def found(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.out.read_text(encoding="utf-8"))
        return read

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Return how the check ended and what it printed."""
        return subprocess.run([*self.command, *more], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Pretended]:
    pretended = Pretended(tmp_path_factory.mktemp("check"))
    return pretended.run(), pretended


Ran = tuple[subprocess.CompletedProcess[str], Pretended]


def test_a_job_that_fails_or_ends_its_process_costs_itself_alone(ran: Ran) -> None:
    done, pretended = ran
    assert done.returncode == 1, done.stderr  # one layout's numbers were wrong
    failed = {
        (each["name"], each["lengths"], each["quant"]): each["failed"]
        for each in pretended.found["cases"]
        if "failed" in each and not each["name"].startswith("packed varlen")
    }
    assert failed == {
        ("prefix flex", "hh", "none"): "out of memory at 139 GiB",
        ("prefix flex", "long", "none"): "the process ended with 11: Segmentation fault",
        ("prefix sdpa", "long", "4bit"): "AcceleratorError: CUDA error: an illegal memory access",
    }
    # lengths, with and without 4 bits: two layouts of three, and padded rows; checkpointing twice, fp16, in full
    assert len(pretended.found["cases"]) == 2 * (2 * 7 + 4)
    processes = {line for line in pretended.out.with_suffix(".log").read_text().splitlines() if "a library talks" in line}
    assert len(processes) == 3  # the first, and one after each of the last two
    assert "a library talks" not in done.stdout
    assert done.stdout.count("| prefix varlen  ") == 4
    assert "TRL: not run: it is not installed" in done.stdout


def test_wrong_gradients_are_not_measured(ran: Ran) -> None:
    found = ran[1].found
    wrong = [each for each in found["equality"] if each["is"] != "equal"]
    assert [(each["layout"], each["kernel"], each["precision"], each["is"]) for each in wrong] == [
        ("packed", "varlen", "bf16", "NOT equal")
    ]
    reasons = {each["failed"] for each in found["cases"] if each["name"] == "packed varlen"}
    assert reasons == {"not measured: its gradients are not known to be right"}


def test_it_ends_with_the_attention_function_to_set(ran: Ran) -> None:
    done, pretended = ran
    *_, choice, _, file = done.stdout.splitlines()
    assert choice.startswith("to choose: layout=prefix layout.attention=varlen (")
    assert "is fastest at hh none, long none, hh 4bit, long 4bit" in choice
    assert file == str(pretended.out)
    assert choice in gpu_report.page(pretended.found)


def test_the_shares_are_those_of_the_data_sheet_and_of_the_plain_product(ran: Ran) -> None:
    measured = [each for each in ran[1].found["cases"] if "pairs_per_second" in each]
    assert {(each["mfu"], each["of_gemm"]) for each in measured} == {(0.4, 0.5)}  # 400 of 1000 and of 800 TFLOP/s


def test_a_job_that_takes_too_long_is_stopped_and_the_next_one_is_done(tmp_path: Path) -> None:
    with gpu_jobs.Worker(tiny=False, log=tmp_path / "log", command=Pretended(tmp_path).worker) as worker:
        assert worker.ask({"job": "gemm"}, 30) == {"tflops": 800.0}
        assert worker.ask({"job": "hang"}, 0.1) == {"failed": "stopped after 0 s"}
        assert worker.ask({"job": "gemm"}, 30) == {"tflops": 800.0}


def test_what_does_not_fit_the_time_is_said_to_be_not_run(tmp_path: Path) -> None:
    pretended = Pretended(tmp_path)
    done = pretended.run("--minutes", str((gpu_check.LEAST + gpu_check.SPARE - 1) / 60))
    assert done.returncode == 2
    assert "error: not run: no time left" in done.stdout
    check = gpu_check.Check(gpu_jobs.Worker(tiny=False, log=tmp_path / "log", command=pretended.worker), pretended.out, 9)
    check.until = time.monotonic() + gpu_check.LEAST - 1
    check.case(gpu_check.asked_for("padded", "sdpa", "hh", "none"))
    assert [case["failed"] for case in pretended.found["cases"]] == ["not run: no time left"]


def test_when_it_is_stopped_it_writes_what_it_has(tmp_path: Path) -> None:
    pretended = Pretended(tmp_path)  # SIGINT is ignored there, as in jobs that a script starts in the background
    environment = {**os.environ, "HANGS_WITH": "4bit"}
    process = subprocess.Popen(pretended.command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    until = time.monotonic() + 60
    while time.monotonic() < until and not (pretended.out.exists() and len(pretended.found["cases"]) == 20):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert {each["failed"] for each in pretended.found["cases"] if each["quant"] == "4bit"} == {"not run: stopped"}
    assert "to choose: layout=prefix layout.attention=varlen" in shown


def test_without_a_gpu_it_says_how_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--tiny is a dry run on a CPU" in gpu_worker.machine(gpu_worker.here(tiny=False))["failed"]


def test_without_torch_it_says_which_pythons_were_tried(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "python3").symlink_to(tmp_path / "python")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "gpu_check.sh"  # a checkout without .venv
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 2
    assert "name one by PYTHON=..." in done.stderr


def test_errors_of_a_job_are_answers_and_cuda_s_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> dict[str, Any]:
        def job(place: object) -> dict[str, Any]:
            raise error

        monkeypatch.setitem(gpu_worker.JOBS, "gemm", job)
        return gpu_worker.done(gpu_worker.here(tiny=True), {"job": "gemm"})

    assert fails(torch.OutOfMemoryError("CUDA out of memory. Tried ..."))["failed"].startswith("out of memory at ")
    assert fails(ValueError("no such thing")) == {"failed": "ValueError: no such thing", "broken": False}
    assert fails(RuntimeError("CUDA error: an illegal memory access was encountered"))["broken"]


def test_a_gradient_that_is_wrong_by_a_thousandth_is_found_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = {"q": torch.ones(3), "k": torch.full((3,), 2.0)}

    def gradients(place: object, layout: Layout, precision: str) -> dict[str, Tensor]:
        factor = 1.001 if isinstance(layout, PackedLayout) else 1.0
        return {"q": truth["q"], "k": factor * (1.0 if precision == "fp32" else 1.01) * truth["k"]}

    gpu_measure.true_gradients.cache_clear()
    monkeypatch.setattr(gpu_measure, "gradients", gradients)
    place = gpu_worker.here(tiny=True)
    found = gpu_measure.equality(place, "packed", "sdpa", "fp32")
    assert (found["equal"], found["weight"]) == (False, "k")
    assert found["gap"] == pytest.approx(1e-3, rel=1e-2)
    assert gpu_measure.equality(place, "prefix", "sdpa", "fp32")["equal"]
    # in bf16 padded rows are .01 away themselves: .02 and .01 more are allowed
    found = gpu_measure.equality(place, "packed", "sdpa", "bf16")
    assert found["equal"]
    assert found["allowed"] == pytest.approx(0.03)


def test_a_trl_of_another_interface_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise TypeError("DPOConfig.__init__() got an unexpected keyword argument 'precompute_ref_log_probs'")

    monkeypatch.setattr(gpu_peer, "measure", fails)
    job = {"job": "trl", "variant": "tuned", "lengths": "tiny", "quant": "none"}
    said = gpu_worker.done(gpu_worker.here(tiny=True), job)["failed"]
    assert said.startswith("RuntimeError: this TRL has another interface than 1.16: DPOConfig")


def test_a_gradient_that_is_no_number_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(place: object, layout: Layout, precision: str) -> dict[str, Tensor]:
        return {"q": torch.full((3,), float("nan") if isinstance(layout, PackedLayout) else 1.0)}

    gpu_measure.true_gradients.cache_clear()
    monkeypatch.setattr(gpu_measure, "gradients", gradients)
    assert not gpu_measure.equality(gpu_worker.here(tiny=True), "packed", "sdpa", "fp32")["equal"]


def test_a_peer_gets_as_many_pairs_as_fit_our_micro_batches() -> None:
    # the longest row of LONG is 1020 + 415 tokens: two pairs are 4 x 1435 = 5740 of 8192; of HH 364 + 42: 8 x 2 x 406 = 6496
    sizes = [gpu_peer.pairs_at_a_time(gpu_model.pairs(lengths), 8192) for lengths in (gpu_model.LONG, task.LENGTHS)]
    assert sizes == [2, 8]


def test_the_table_says_nothing_of_what_was_not_measured() -> None:
    failed = {**gpu_check.asked_for("prefix", "flex", "hh", "none"), "failed": "x"}
    assert list(gpu_report.choices([failed])) == ["to choose: nothing was measured; layout.attention=sdpa stays"]


def test_four_bits_get_the_layers_that_peft_has_for_them() -> None:
    from peft.tuners.lora.bnb import Linear4bit

    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = gpu_model.in_4_bits(gpu_model.mistral(shape, CPU, torch.float32), torch.float32)
    policy = LoRA(rank=2).attach(model, seed=0)
    assert sum(isinstance(layer, Linear4bit) for layer in policy.modules()) == 7
