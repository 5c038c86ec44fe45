"""What was made from a damaged artifact is not used either, and made again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from dpo_lab.artifacts import MANIFEST, Artifact
from dpo_lab.components import RunError
from dpo_lab.damage import SUSPECT, forget
from tests.artifact_parts import flip, opened, plan, write_rows


def family(root: Path) -> dict[str, Artifact]:
    """Return a model, candidates made from it, pairs from those, an evaluation that opened the model, and what used nothing."""
    model = plan(root, kind="model").make(write_rows)
    candidates = plan(root, model, kind="candidates").make(write_rows)
    pairs = plan(root, candidates, kind="pairs").make(write_rows)

    def evaluate(directory: Path) -> dict[str, Any]:
        assert Artifact.open(model.path)
        return {}

    evaluation = plan(root, kind="evaluation").make(evaluate)
    return {
        "model": model,
        "candidates": candidates,
        "pairs": pairs,
        "evaluation": evaluation,
        "other": plan(root).make(write_rows),
    }


def test_what_was_made_from_a_damaged_part_is_made_again_too_even_by_a_later_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = family(tmp_path)
    assert made["evaluation"].manifest["parents"] == [made["model"].id], "what is opened while it is made is a parent"
    flip(made["model"].path / "rows.txt")

    def killed(directory: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(tmp_path, kind="model").make(killed)
    assert "and so is what was made from it (3 artifacts)." in capsys.readouterr().out
    assert plan(tmp_path, kind="model").make(write_rows).made_now
    assert {name for name, each in made.items() if not opened(each.path)} == {"candidates", "pairs", "evaluation"}
    again = plan(tmp_path, made["model"], kind="candidates").make(write_rows)
    assert again.made_now
    assert f"it was made from {made['model'].path}, which was damaged" in capsys.readouterr().out
    assert not (again.path / SUSPECT).exists()


def test_what_stands_in_other_outputs_and_was_made_from_a_part_kept_elsewhere_is_made_again_too(tmp_path: Path) -> None:
    shared = plan(tmp_path / "shared", kind="reference").make(write_rows)
    policy = plan(tmp_path / "outputs", shared, kind="policy").make(write_rows)
    flip(shared.path / "rows.txt")
    assert plan(tmp_path / "shared", kind="reference").make(write_rows).made_now
    assert not opened(policy.path)


def test_a_part_that_another_process_is_making_is_left_to_it(tmp_path: Path) -> None:
    made = family(tmp_path)
    flip(made["model"].path / "rows.txt")
    forget()
    with FileLock(tmp_path / "model" / f".{made['model'].path.name}.lock"):
        assert plan(tmp_path, made["candidates"], kind="pairs").finished(with_parents=True)
    assert not list(tmp_path.rglob(SUSPECT))


def test_damage_in_one_outputs_directory_says_nothing_of_a_whole_copy(tmp_path: Path) -> None:
    one, other = family(tmp_path / "one"), family(tmp_path / "other")
    flip(one["model"].path / "rows.txt")
    assert plan(tmp_path / "one", kind="model").make(write_rows).made_now
    assert all(opened(each.path) for each in other.values())


def test_a_finished_part_is_not_used_if_a_part_that_it_was_made_from_is_damaged(tmp_path: Path) -> None:
    made = family(tmp_path)
    pairs = plan(tmp_path, made["candidates"], kind="pairs")
    assert pairs.finished(with_parents=True)
    shutil.rmtree(made["candidates"].path)
    assert pairs.finished(with_parents=True), "deleting a part is not damage"
    flip(made["model"].path / "rows.txt")
    forget()
    assert pairs.finished(with_parents=True), "nothing tells that it was made from the model any more"
    made = family(tmp_path)
    flip(made["model"].path / MANIFEST, 3)
    assert pairs.finished(with_parents=True) is None
    assert pairs.finished() is None


def test_a_part_that_goes_on_starts_over_if_what_it_is_made_from_was_damaged(tmp_path: Path) -> None:
    model = plan(tmp_path, kind="model").make(write_rows)

    def half(directory: Path) -> dict[str, Any]:
        (directory / "half.txt").write_text("of the damaged model")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(tmp_path, model, kind="policy").make(half, resume=True)
    flip(model.path / "large.bin")
    assert plan(tmp_path, kind="model").make(write_rows).made_now
    policy = plan(tmp_path, model, kind="policy").make(write_rows, resume=True)
    assert "half.txt" not in policy.manifest["files"]


@pytest.mark.parametrize("damaged", ["model", "pairs"])
def test_damage_that_cannot_be_mended_because_nothing_can_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    model = plan(tmp_path, kind="model").make(write_rows)
    pairs = plan(tmp_path, model)
    made = {"model": model, "pairs": pairs.make(write_rows)}
    flip(made[damaged].path / "rows.txt")
    forget()

    def refused(*arguments: object, **settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refused)
    where = made[damaged].path
    with pytest.raises(RunError, match=f"{where} is damaged: rows.txt .* {where.parent} cannot be written .* paths.outputs=DIR"):
        pairs.finished(with_parents=True) or pairs.make(write_rows)


def test_what_was_begun_from_a_damaged_part_starts_over_even_in_a_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process finds the damage and is killed before it comes to the unfinished part; the next one must not resume it."""
    model, other = plan(tmp_path, kind="model").make(write_rows), plan(tmp_path, kind="reference").make(write_rows)
    left: dict[str, list[str]] = {}

    def killed(directory: Path) -> dict[str, Any]:
        (directory / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    def resumed(directory: Path) -> dict[str, Any]:
        left[directory.parent.name] = [path.name for path in directory.iterdir() if path.name == "checkpoint"]
        return {}

    plans = [plan(tmp_path, model, kind="policy"), plan(tmp_path, other, kind="evaluation")]
    for begun in plans:
        with pytest.raises(KeyboardInterrupt):
            begun.make(killed, resume=True)
    flip(model.path / "rows.txt")
    assert plan(tmp_path, kind="model").make(write_rows).made_now
    monkeypatch.setattr("dpo_lab.artifacts._mended", set())  # another process
    made = [begun.make(resumed, resume=True) for begun in plans]
    assert left == {"policy": [], "evaluation": ["checkpoint"]}
    assert all(opened(artifact.path) for artifact in made)
    assert not [path for artifact in made for path in artifact.path.glob("begun.json")]
