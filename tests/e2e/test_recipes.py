"""The recipes of conf/experiment on stand-ins: a small model and a small PairRM in public layouts, fewer of all."""

import re
from pathlib import Path

import pytest

from dpo_lab.conf_files import CONF
from tests.data.hub_directories import card_of, written
from tests.e2e.forked import Command, finished
from tests.e2e.results import assert_equal
from tests.models.directories import model_directory
from tests.ranking.pairrm_directory import write

FEWER = [
    "prompts.num_prompts=8",
    "prompts.num_held_out=4",
    "sampler.num_samples=3",
    "sampler.max_new_tokens=8",
    "evaluation.num_samples=1",
    "recipe.batch_size=4",
    "recipe.token_budget=1024",
    "recipe.lr=1e-2",
    "precision=fp32",
    "reference.audit_rows=2",
]
"""Counts, and a learning rate at which eight pairs change a small model."""
SLOWLY = ["recipe.lr=3e-5"]
"""For SPPO, whose squares of a thousand times the log-ratio blow up a small model at that rate: all its answers become one."""
PLAIN = ("experiment=snorkel_mistral", "quant=none")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with models `mistral` and `qwen2`, a `PairRM-hf`, and `prompts` in the layout of UltraFeedback."""
    root = tmp_path_factory.mktemp("stand-ins")
    for name in ("mistral", "qwen2"):
        model_directory(root / name, name)
    write(root / "PairRM-hf")
    asked = [{"prompt": f"what is answer {number}?", "prompt_id": str(number)} for number in range(36)]
    files = {
        f"data/{name}-00000-of-00001.parquet": rows for name, rows in (("train_prefs", asked[:30]), ("test_prefs", asked[30:]))
    }
    written(root / "prompts", files, card_of("train_prefs", "test_prefs"))
    return root


def command(stand_ins: Path, outputs: Path, *words: str, model: str = "mistral") -> list[str]:
    """Return the words of a training that reads the stand-ins."""
    paths = {"prompts": "prompts", "ranker": "PairRM-hf", "model": model}
    here = [f"{key}.path={stand_ins / name}" for key, name in paths.items()]
    keys = {word.partition("=")[0] for word in words}
    fewer = [word for word in FEWER if word.partition("=")[0] not in keys]
    return [*here, *fewer, *words, f"paths.outputs={outputs}"]


def run(words: list[str]) -> str:
    """Return what a training says on the screen."""
    return finished(Command("train.py", *words, COLUMNS="100"))


def expected_lines(recipe: str) -> list[str]:
    """Return the beginnings of the last lines that a recipe's yaml promises."""
    head = (CONF / "experiment" / f"{recipe}.yaml").read_text(encoding="utf-8").partition("defaults:")[0]
    promised = head.partition("Last lines")[2].splitlines()[1:]
    return [line.removeprefix("#").strip() for line in promised if line.startswith("#   ")]


def assert_promised(recipe: str, said: str, outputs: Path) -> None:
    promised, lines = expected_lines(recipe), said.replace(str(outputs), "outputs").splitlines()
    assert promised
    position = -1
    for beginning in promised:
        later = [number for number, line in enumerate(lines) if number > position and beginning in line]
        assert later, f"{recipe}: no line with {beginning!r} after line {position} of:\n{said}"
        position = later[0]


@pytest.fixture(scope="module")
def whole(stand_ins: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the recipe says without 4 bits on the second model, and its outputs."""
    outputs = tmp_path_factory.mktemp("whole")
    return run(command(stand_ins, outputs, *PLAIN, model="qwen2")), outputs


def assert_three_rounds(recipe: str, said: str, outputs: Path) -> None:
    assert_promised(recipe, said, outputs)
    kinds = {kind: len(list((outputs / kind).glob("*/manifest.json"))) for kind in ("candidates", "ranking", "pairs", "policy")}
    assert kinds == dict.fromkeys(kinds, 3)


@pytest.mark.parametrize(("recipe", "words"), [("snorkel_mistral", []), ("sppo", SLOWLY)], ids=["snorkel-4bit", "sppo"])
def test_a_recipe_runs_its_three_rounds(recipe: str, words: list[str], stand_ins: Path, tmp_path: Path) -> None:
    assert_three_rounds(recipe, run(command(stand_ins, tmp_path, f"experiment={recipe}", *words)), tmp_path)


def test_a_recipe_runs_its_three_rounds_on_another_model_without_4_bits(whole: tuple[str, Path]) -> None:
    assert_three_rounds("snorkel_mistral", *whole)


def test_given_pairs_are_trained_by_their_recipe(stand_ins: Path, tmp_path: Path, shared_data: Path) -> None:
    pairs = shared_data / "hub_layout" / "Snorkel-style-PairRM-DPO"
    if not pairs.is_dir():
        pytest.skip(f"no {pairs.name} in ../shared/data/hub_layout")
    words = ["experiment=mistral_pairrm", f"model.path={stand_ins / 'mistral'}", f"data.path={pairs}"]
    words += ["data.split=train_iteration_1", "data.max_dropped=0.1", "precision=fp32", "trainer.max_pairs=8"]
    assert_promised("mistral_pairrm", run([*words, f"paths.outputs={tmp_path}"]), tmp_path)


def test_a_recipe_killed_in_every_round_ends_as_one_that_was_not(
    stand_ins: Path, tmp_path: Path, whole: tuple[str, Path]
) -> None:
    words = command(stand_ins, tmp_path, *PLAIN, model="qwen2")
    for line in (r"^1 model", r"round 1/3", r"round 2/3"):
        killed = Command("train.py", *words, COLUMNS="100")
        killed.stop_when(lambda killed=killed, line=line: re.search(line, killed.said(), re.M))  # type: ignore[misc]
        assert killed.returncode == -9
    run(words)
    assert_equal(tmp_path, whole[1])
