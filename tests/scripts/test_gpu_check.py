"""The check for a GPU, as a dry run: it gates on equality, counts operations, and writes what it found."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.models.adapter import LoRA
from scripts.bench import gpu_check, gpu_model
from scripts.bench.gpu_check import Bench

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.mark.slow
def test_the_dry_run_writes_one_json_and_one_table(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = ["bash", str(ROOT / "scripts" / "gpu_check.sh"), "--tiny", "--out", str(out)]
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {each["is"] for each in found["equality"].values()} == {"equal"}
    assert {(case["name"].split()[1], case["quant"]) for case in found["cases"]} >= {
        *((layout, "none") for layout in ("padded", "packed", "prefix")),
        *((layout, "4bit") for layout in ("packed", "prefix")),
    }
    assert all(case["loss"] == pytest.approx(0.693, abs=2e-3) for case in found["cases"] if "ours" in case["name"])
    assert done.stdout.count("| ours ") == sum("ours" in case["name"] for case in found["cases"])


def test_without_a_gpu_it_says_how_to_try(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "--tiny is a dry run" in capsys.readouterr().out


def test_a_layout_whose_gradients_are_wrong_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole: Callable[..., dict[str, Any]] = gpu_check.gradients

    def wrong(bench: Bench, layout: Any, store: Any, *, bf16: bool) -> dict[str, Any]:
        factor = 1.001 if isinstance(layout, PackedLayout) and not bf16 else 1.0
        return {name: factor * weight for name, weight in whole(bench, layout, store, bf16=bf16).items()}

    monkeypatch.setattr(gpu_check, "gradients", wrong)
    bench = Bench(CPU, tiny=True, out=tmp_path / "check.json")
    assert [layout.label for layout in gpu_check.equality(bench)] == ["prefix"]
    assert bench.record["equality"]["packed sdpa fp32"]["is"] == "NOT equal"


def test_operations_are_those_counted_by_hand_also_of_packed_weights() -> None:
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape["num_key_value_heads"] = 1
    store = gpu_model.token_store(gpu_model.pairs(((3, 2, 4),)))
    batch = PackedLayout().pairs(store, [0])  # 3 + 2 and 3 + 4 tokens, 6 of them answers
    plain = gpu_model.mistral(shape, CPU, torch.float32)
    packed = gpu_model.in_4_bits(gpu_model.mistral(shape, CPU, torch.float32), torch.float32)
    body = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128  # q, k and v, o, the three of the MLP
    lora = 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    for model in (plain, packed):
        policy = LoRA(rank=2).attach(model, seed=0)
        assert gpu_model.operations(policy, [batch]) == 2 * (12 * (2 * body + 3 * lora) + 6 * 2 * 64 * 32000)
