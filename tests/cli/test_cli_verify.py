"""`dpo-lab verify`: what it finds, what it says to delete, its exit codes, and what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab import damage
from dpo_lab.artifacts import MANIFEST
from dpo_lab.cli.main import main
from dpo_lab.durable_files import sealed_file
from tests.artifact_parts import flip, opened, plan, write_rows


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_everything_whole_is_one_line_and_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = plan(tmp_path, kind="model").make(write_rows)
    plan(tmp_path, model).make(write_rows)
    for place in (tmp_path, tmp_path / "model", model.path):
        assert main(["verify", str(place)]) == 0
    shown = lines(capsys)
    assert [line.split(" s: ")[1] for line in shown] == ["0 damaged"] * 3
    assert [line.split(",")[0] for line in shown] == ["2 checked", "1 checked", "1 checked"]


def test_damage_is_named_with_what_was_made_from_it_and_what_to_delete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plan(tmp_path, kind="model").make(write_rows)
    pairs = plan(tmp_path, model).make(write_rows)
    policy = plan(tmp_path, pairs, kind="policy").make(write_rows)
    plan(tmp_path, kind="tokens").make(write_rows)
    flip(model.path / "rows.txt", keep_time=True)
    flip(policy.path / MANIFEST, 1)
    assert main(["verify", str(tmp_path)]) == 1
    shown = lines(capsys)
    assert shown[0] == f"damaged   {model.path}: rows.txt does not match its sha256"
    assert shown[1].startswith(f"damaged   {policy.path}: {MANIFEST} ")
    assert shown[2] == f"suspect   {pairs.path}: made from {model.path}"
    assert shown[3].startswith("4 checked")
    assert shown[3].endswith(": 2 damaged")
    assert shown[5] == f"  rm -r {model.path} {policy.path} {pairs.path}"
    done = subprocess.run(shown[5].split(), check=True)
    assert done.returncode == main(["verify", str(tmp_path)]) == 0


def test_a_bit_that_rots_in_a_large_file_is_noticed_by_the_command_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "ALWAYS", 50)
    made = plan(tmp_path).make(write_rows)
    flip(made.path / "large.bin", keep_time=True)
    assert opened(made.path)
    assert main(["verify", str(tmp_path)]) == 1
    assert not opened(made.path)


def test_checkpoints_of_a_training_that_is_not_finished_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "policy" / "films-abc" / "checkpoints"
    place.mkdir(parents=True)
    for step in (1, 2):
        with sealed_file(place / f"step_000000{step}.ckpt") as file:
            file.write(b"weights")
    assert main(["verify", str(tmp_path)]) == 0
    assert lines(capsys)[0] == f"unfinished {place.parent}"
    flip(place / "step_0000002.ckpt")
    assert main(["verify", str(tmp_path)]) == 1
    assert lines(capsys)[0] == f"damaged   {place / 'step_0000002.ckpt'}: it does not match the digest that it carries"


def test_damage_in_one_outputs_directory_says_nothing_of_another_that_has_a_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "outputs", tmp_path / "outputs" / "rerun" / "films"
    models = [plan(root, kind="model").make(write_rows) for root in (one, other)]
    made, _ = (plan(root, model).make(write_rows) for root, model in zip((one, other), models, strict=True))
    flip(models[0].path / "rows.txt")
    assert main(["verify", str(tmp_path)]) == 1
    assert [line for line in lines(capsys) if "suspect" in line] == [f"suspect   {made.path}: made from {models[0].path}"]


@pytest.mark.parametrize("word", [".", "..", "./"])
def test_what_to_delete_can_be_typed_inside_the_artifact_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    made = plan(tmp_path).make(write_rows)
    flip(made.path / "rows.txt")
    (made.path / "below").mkdir()
    monkeypatch.chdir(made.path / "below" if word == ".." else made.path)
    assert main(["verify", word]) == 1
    assert f"  rm -r {made.path}" in lines(capsys)


def test_an_artifact_that_has_lost_its_manifest_is_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(tmp_path).make(write_rows)
    (made.path / MANIFEST).unlink()
    assert main(["verify", str(tmp_path)]) == 0
    assert lines(capsys)[0] == f"unfinished {made.path}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere is not a directory"),
        (["."], ". holds no artifact"),
        ([], "outputs is not a directory"),
        (["a", "b"], "a b: verify takes one directory, and no options. Write dpo-lab verify DIR"),
        (["--all"], "--all: verify takes one directory, and no options. Write dpo-lab verify DIR"),
    ],
)
def test_what_cannot_be_checked_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {says}")


def test_help_is_answered_at_once_and_checking_loads_neither_torch_nor_hydra(tmp_path: Path) -> None:
    plan(tmp_path).make(write_rows)
    code = f"""
import sys
from dpo_lab.cli.main import main
assert main(["verify", "--help"]) == 0
print(sorted({{"torch", "hydra", "omegaconf", "pydantic", "rich"}} & set(sys.modules)))
assert main(["verify", {str(tmp_path)!r}]) == 0
print(sorted({{"torch", "hydra", "omegaconf"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    assert shown[0] == "usage: dpo-lab verify [DIR]"
    assert [line for line in shown if line.startswith("[")] == ["[]", "[]"]
