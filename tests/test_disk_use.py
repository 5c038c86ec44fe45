"""What can go: runs that were chosen and what only they are made from; a parent of what stays, stays."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.cli.clean import Asked, tell
from dpo_lab.disk_use import kept_below, own_bytes, removal


def made(outputs: Path, kind: str, name: str, *parents: Artifact, size: int = 100) -> Artifact:
    def produce(directory: Path) -> dict[str, Any]:
        (directory / "weights").write_bytes(b"x" * size)
        return {}

    return Plan(outputs, kind, name, {"name": name}, parents=[each.id for each in parents]).make(produce)


def two_runs(outputs: Path) -> dict[str, Artifact]:
    """Return two runs on one base model, each with a policy of its own."""
    base = made(outputs, "model", "base", size=5000)
    first, second = (made(outputs, "policy", name, base, size=1000) for name in ("p1", "p2"))
    runs = {f"run{at}": made(outputs, "train", f"run{at}", base, policy) for at, policy in ((1, first), (2, second))}
    return {"base": base, "p1": first, "p2": second, **runs}


def test_a_run_goes_with_its_policy_and_the_base_model_that_another_run_needs_stays(tmp_path: Path) -> None:
    there = two_runs(tmp_path)
    found = removal(kept_below(tmp_path), {there["run1"].path})
    assert [each.path for each in found.gone] == [there["run1"].path, there["p1"].path]
    both = removal(kept_below(tmp_path), {there["run1"].path, there["run2"].path})
    assert {each.path for each in both.gone} == {each.path for each in there.values()}
    assert both.bytes > 7000


def test_what_an_export_is_made_from_stays(tmp_path: Path) -> None:
    there = two_runs(tmp_path)
    made(tmp_path, "export", "e", there["p1"])
    found = removal(kept_below(tmp_path), {there["run1"].path})
    assert [each.path for each in found.gone] == [there["run1"].path]
    of_run = made(tmp_path, "publication", "p", there["run2"])
    kept = removal(kept_below(tmp_path), {there["run2"].path})
    assert kept.gone == ()
    assert kept.needed == {there["run2"].path: of_run.path}


def test_what_is_begun_keeps_what_it_is_made_from(tmp_path: Path) -> None:
    there = two_runs(tmp_path)
    begun = tmp_path / "train" / "begun-12345678"
    begun.mkdir()
    (begun / "begun.json").write_text(f'{{"parents": ["{there["p1"].id}"]}}')
    configured(begun, "a", "b")
    configured(there["run1"].path, "c", "d")
    assert [each.path for each in removal(kept_below(tmp_path), {there["run1"].path}).gone] == [there["run1"].path]


def configured(run: Path, model: str, data: str, adapter: str = "none") -> None:
    run.mkdir(exist_ok=True)
    (run / "config.json").write_text(f'{{"model": {{"path": "{model}", "adapter": "{adapter}"}}, "data": {{"path": "{data}"}}}}')


@pytest.mark.parametrize(
    ("model", "data", "stays"),
    [("a", "b", True), ("a", "other", True), ("other", "b", True), ("other", "another", False), (None, None, True)],
)
def test_parts_that_an_unfinished_run_may_read_next_stay(
    tmp_path: Path, model: str | None, data: str | None, stays: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens and its base model are those of the run that goes, though it has read neither yet."""
    there = two_runs(tmp_path)
    chosen = {there["run1"].path, there["run2"].path}
    for run in chosen:
        configured(run, "a", "b", adapter="lora")
    begun = tmp_path / "train" / "begun-12345678"
    begun.mkdir()
    (begun / "begun.json").write_text('{"parents": []}')
    if model and data:
        configured(begun, model, data)
    found = removal(kept_below(tmp_path), chosen)
    parts = {there[name].path for name in ("base", "p1", "p2")}
    assert {artifact.path for artifact in found.gone} == chosen | (set() if stays else parts)
    assert found.awaited == (dict.fromkeys(parts, begun) if stays else {})
    assert removal(kept_below(tmp_path), {*chosen, begun}).awaited == {}
    tell(found, Asked())
    assert (
        f"3 parts stay: {begun} is unfinished and may read them. Remove the run: rm -r {begun}\n" in capsys.readouterr().out
    ) == stays


def unfinished(outputs: Path) -> Path:
    begun = outputs / "train" / "begun-12345678"
    begun.mkdir()
    (begun / "begun.json").write_text('{"parents": []}')
    return begun


def test_a_file_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    there = two_runs(tmp_path)
    (tmp_path / "pairs.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to("pairs.jsonl")
    begun = unfinished(tmp_path)
    configured(begun, "a", "pairs.jsonl")
    (begun / "call.json").write_text(json.dumps({"cwd": str(tmp_path), "command": "python train.py"}))
    for name in ("pairs.jsonl", "link.jsonl"):
        configured(there["run1"].path, "other", str(tmp_path / name))
        assert removal(kept_below(tmp_path), {there["run1"].path}).awaited == {there[name].path: begun for name in ("base", "p1")}
    configured(there["run1"].path, "other", "pairs.jsonl")  # started in another directory
    assert removal(kept_below(tmp_path), {there["run1"].path}).awaited == {}


def test_a_trained_ranker_stays_while_any_run_is_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranker = made(tmp_path, "ranker", "pairrm_tiny")
    run = made(tmp_path, "train", "run", ranker)
    configured(run.path, "a", "b")
    begun = unfinished(tmp_path)
    configured(begun, "c", "d")
    (begun / "call.json").write_text(json.dumps({"cwd": "/my runs", "command": "python train.py loss=ipo"}))
    found = removal(kept_below(tmp_path), {run.path})
    assert [each.path for each in found.gone] == [run.path]
    tell(found, Asked())
    said = capsys.readouterr().out
    finish = "To finish it: cd '/my runs' && python train.py loss=ipo. Or remove the run: rm -r"
    assert f"1 part stays: {begun} is unfinished and may read it. {finish} {begun}\n" in said


def test_the_size_of_a_run_is_that_of_its_own_parts(tmp_path: Path) -> None:
    there = two_runs(tmp_path)
    sizes = own_bytes(kept_below(tmp_path))
    assert set(sizes) == {there["run1"].path, there["run2"].path}
    assert 1100 < sizes[there["run1"].path] < 5000
