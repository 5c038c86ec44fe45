"""What scripts/gpu_check.sh leaves: figures counted by hand, a JSON with a schema, the tables of docs/benchmarks.md."""

import json
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.models.adapter import LoRA
from scripts.bench import gpu_check, gpu_model, gpu_report, gpu_tables, gpu_worker

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
MEASURED: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "layout", "kernel", "lengths", "quant", "adapter", "precision"), (str,)),
    **dict.fromkeys(("pairs_per_second", "tokens_per_second", "forwarded_per_second", "operations_per_second"), (float,)),
    **dict.fromkeys(("reference_seconds", "loss"), (float,)),
    **dict.fromkeys(("peak_gib", "mfu", "of_gemm"), (float, type(None))),  # no memory of a GPU, no data sheet, no product
    **dict.fromkeys(("micro_batches", "skipped_steps"), (int,)),
    "checkpointing": (bool,),
    "epoch_seconds": (list,),
}
"""What a case that was measured has in the JSON, and of which kind."""


class InProcess:
    """Does the jobs here, as the worker's process does them."""

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        return gpu_worker.done(gpu_worker.here(tiny=True), dict(job))


def refuse_wrong_schema(record: dict[str, Any]) -> None:
    assert {**record, "schema": 1} == record
    assert set(record) == {"schema", "tiny", *gpu_tables.PARTS}
    for case in record["cases"]:
        if "failed" not in case:
            assert set(case) == set(MEASURED)
            assert [name for name, kinds in MEASURED.items() if type(case[name]) not in kinds] == []
    for one in record["shapes"]:
        assert set(one) == {"layout", "kernel", "first_seconds", "new_seconds", "again_seconds"}


def test_the_weights_are_those_counted_by_hand_also_of_packed_ones_and_below_an_adapter() -> None:
    body = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128  # q, k and v, o, the three of the MLP
    plain = gpu_model.mistral(SHAPE, CPU, torch.float32)
    packed = gpu_model.in_4_bits(gpu_model.mistral(SHAPE, CPU, torch.float32), torch.float32)
    for model in (plain, packed):
        assert gpu_model.weights(model) == body + 64 * 32000
        assert gpu_model.weights(LoRA(rank=2).attach(model, seed=0)) == body + 64 * 32000


def test_a_7b_needs_28_gflop_a_token_with_lora_and_43_in_full() -> None:
    with torch.device("meta"):
        model = gpu_model.mistral(gpu_model.SHAPE, torch.device("meta"), torch.bfloat16)
    # 32 layers of 4096 x (4096 + 2 x 1024 + 4096 + 3 x 14336) = 6.979e9, and a head of 4096 x 32000
    assert gpu_model.weights(model) == 32 * 4096 * (4096 + 2 * 1024 + 4096 + 3 * 14336) + 4096 * 32000 == 7_110_393_856
    assert gpu_model.operations(gpu_model.weights(model), 1, "lora") == pytest.approx(28.44e9, rel=1e-3)
    assert gpu_model.operations(gpu_model.weights(model), 1, "none") == pytest.approx(42.66e9, rel=1e-3)


@pytest.mark.parametrize(
    ("layout", "tokens"),
    [
        (PrefixLayout(), (3 + 2 + 4) + (7 + 5 + 1)),  # each prompt once
        (PackedLayout(), (3 + 2 + 3 + 4) + (7 + 5 + 7 + 1)),
        (PaddedLayout(), (3 + 2 + 3 + 4) + (7 + 5 + 7 + 1)),  # not the 4 rows of 12 that padding makes of them
    ],
)
def test_forwarded_tokens_count_a_shared_prompt_once_and_no_padding(layout: Layout, tokens: int) -> None:
    store = gpu_model.token_store(gpu_model.pairs(((3, 2, 4), (7, 5, 1))))
    assert gpu_model.forwarded([layout.items(store, [0, 1])]) == tokens


def test_mfu_is_the_operations_of_the_forwarded_tokens_over_the_data_sheet(tmp_path: Path) -> None:
    class Pretended:
        def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
            found = gpu_model.operations(7_000_000_000, 10_000, "lora")  # 1e4 tokens a second at 2.8e10 a token
            return {"pairs_per_second": 48.0, "operations_per_second": found}

    check: Any = gpu_check.Check(Pretended(), tmp_path / "one.json", 9)  # type: ignore[arg-type]
    check.record |= {"machine": {"peak_tflops": gpu_model.peak_tflops("NVIDIA H200")}, "gemm_tflops": 700.0}
    check.case(gpu_check.asked_for("padded", "sdpa", "hh", "none"))
    assert check.record["cases"][0]["mfu"] == pytest.approx(280 / 989)
    assert check.record["cases"][0]["of_gemm"] == pytest.approx(0.4)


def test_what_a_setting_costs_is_its_case_over_the_same_without_it() -> None:
    plain = {**gpu_check.asked_for("prefix", "flex", "hh", "none"), "pairs_per_second": 50.0, "peak_gib": 60.0}
    again = {
        **gpu_check.asked_for("prefix", "flex", "hh", "none", checkpointing=True),
        "pairs_per_second": 40.0,
        "peak_gib": 24.0,
    }
    nf4 = {**gpu_check.asked_for("prefix", "flex", "hh", "4bit"), "pairs_per_second": 45.0, "peak_gib": None}
    elsewhere = {**gpu_check.asked_for("prefix", "sdpa", "hh", "none", precision="fp16"), "pairs_per_second": 45.0}
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in gpu_report.comparisons([plain, again, nf4, elsewhere]).splitlines()
    ]
    assert rows[2:] == [
        ["checkpointing on, off", "prefix flex", "hh", "0.80", "0.40"],
        ["QLoRA, LoRA", "prefix flex", "hh", "0.90", "-"],
    ]


def test_steps_that_overflow_in_fp16_are_counted_and_a_training_of_nothing_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**60))
    job = {"job": "ours", **gpu_check.asked_for("prefix", "sdpa", "tiny", "none", precision="fp16")}
    assert gpu_worker.done(gpu_worker.here(tiny=True), job)["failed"] == "RuntimeError: the gradients of all 2 steps overflowed"


def test_a_part_that_fails_is_recorded_by_name_and_the_others_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(place: object, **_: Any) -> dict[str, Any]:
        raise ValueError("no such kernel")

    def measures(place: object, **asked: Any) -> dict[str, Any]:
        return fails(place) if asked["precision"] == "fp16" else {"pairs_per_second": 2.0, "tokens_per_second": 9.0, "loss": 0.69}

    jobs = {
        "gemm": fails,
        "shapes": fails,
        "ours": measures,
        "equality": lambda place, **_: {"equal": True, "gap": 0.0, "allowed": 1.0},
    }
    for name, job in jobs.items():
        monkeypatch.setitem(gpu_worker.JOBS, name, job)
    check = gpu_check.Check(InProcess(), tmp_path / "one.json", 9, tiny=True)  # type: ignore[arg-type]
    assert check.run() == 0
    record = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    said = "ValueError: no such kernel"
    assert record["failed"] == {"a plain bf16 product": said}
    assert record["shapes"] == [{"layout": "prefix", "kernel": "sdpa", "failed": said, "broken": False}]
    assert [case["name"] for case in record["cases"] if "failed" in case] == ["prefix sdpa, fp16"]
    assert len(record["cases"]) > 8
    assert f"a plain bf16 product: {said}" in gpu_report.page(record)
    assert f"prefix sdpa, fp16 tiny none: {said}" in gpu_report.page(record)


@pytest.mark.slow
def test_the_dry_run_writes_one_json_of_the_schema_from_any_directory(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "scripts" / "gpu_check.sh"), "--tiny", "--out", "check.json"]
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + (tmp_path / "check.log").read_text(encoding="utf-8")
    record = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    refuse_wrong_schema(record)
    assert [case for case in record["cases"] if "failed" in case] == []
    assert {each["is"] for each in record["equality"]} == {"equal"}
    assert {each["precision"] for each in record["equality"]} == {"fp32", "bf16", "fp16"}
    names = {(case["name"], case["quant"]) for case in record["cases"]}
    assert names == {
        *((f"{layout} sdpa", quant) for layout in ("padded", "packed", "prefix") for quant in ("none", "4bit")),
        *((f"prefix sdpa, {way}", "none") for way in ("checkpointing", "fp16", "in full, checkpointing")),
        ("prefix sdpa, checkpointing", "4bit"),
    }
    assert all(case["loss"] == pytest.approx(0.693, abs=2e-3) for case in record["cases"])
    for case in record["cases"]:  # 2 layers of 128 wide, 4 heads of 128, 2 of keys; the head; tokens of TINY
        weights = 2 * 128 * (2 * 4 * 128 + 2 * 2 * 128 + 3 * 256) + 128 * 1000
        tokens = 29 + 19 + 20 if case["layout"] == "prefix" else 2 * 29 + 19 + 20
        assert case["operations_per_second"] == pytest.approx(
            (6 if case["adapter"] == "none" else 4) * weights * tokens / statistics.median(case["epoch_seconds"])
        )
    assert "first, second" in done.stdout
    assert not list((ROOT / "docs" / "bench").glob("x86*"))


def test_a_dry_run_wants_a_file_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--tiny"]) == 2
    assert "name a file by --out gpu_check.json" in capsys.readouterr().out


def test_a_page_without_files_says_that_no_gpu_has_run_it(tmp_path: Path) -> None:
    page = f"A\n\n{gpu_tables.BEGIN}\n\nold\n\n{gpu_tables.END}\n\nB\n"
    assert gpu_tables.with_gpu_tables(page, tmp_path) == page.replace("old", gpu_tables.NONE)
    with pytest.raises(ValueError, match="lacks the line <!-- end of the GPU tables -->"):
        gpu_tables.with_gpu_tables(page.replace(gpu_tables.END, ""), tmp_path)


def test_the_tables_show_every_machine_of_the_folder_under_its_name(tmp_path: Path) -> None:
    machine = {"device": "NVIDIA H200", "on_gpu": True, "memory_gib": 139.8, "budget": 8192, "python": "3.12", "packages": {}}
    machine |= {"without_bitsandbytes": "", "trl": None}
    measured = {"pairs_per_second": 61.25, "tokens_per_second": 9e3, "peak_gib": 70.0, "mfu": 0.35, "of_gemm": 0.5, "loss": 0.69}
    case = {**gpu_check.asked_for("prefix", "flex", "hh", "none"), "name": "prefix flex", **measured}
    for device, speed in (("NVIDIA H200", 61.25), ("NVIDIA L4", 5.5)):
        record = gpu_check.Check(InProcess(), None, 9).record  # type: ignore[arg-type]
        record |= {"machine": {**machine, "device": device}, "cases": [{**case, "pairs_per_second": speed}]}
        (tmp_path / f"{gpu_report.file_name(device)}.json").write_text(json.dumps(record), encoding="utf-8")
    page = f"A\n\n{gpu_tables.BEGIN}\n\n{gpu_tables.NONE}\n\n{gpu_tables.END}\n\nB\n"
    made = gpu_tables.with_gpu_tables(page, tmp_path)
    assert gpu_tables.NONE not in made
    for device, said in (("NVIDIA H200", "61.25"), ("NVIDIA L4", "5.50")):
        shown = made.split(f"### {device}\n")[1]
        row = next(line for line in shown.splitlines() if line.startswith("| prefix flex"))
        assert [cell.strip() for cell in row.split("|")[1:-1]] == [
            *("prefix flex", "hh", "none", said, "9,000", "-", "70.0", "35%", "50%", "-", "0.6900")
        ]
    assert gpu_tables.with_gpu_tables(made, tmp_path) == made


def test_a_file_that_is_no_whole_record_of_a_gpu_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nvidia_h200.json"
    whole = {**gpu_check.Check(InProcess(), None, 9).record, "machine": {"device": "x86_64", "on_gpu": False}}  # type: ignore[arg-type]
    for text, said in (("{", "is not JSON"), ("{}", "with schema 1"), (json.dumps(whole), "of a dry run or of no GPU")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            gpu_tables.part(file)
