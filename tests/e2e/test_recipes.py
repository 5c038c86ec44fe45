"""The recipes of conf/experiment on stand-ins: a small model and a small PairRM in public layouts, fewer of all."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.conf_files import CONF
from dpo_lab.durable_files import file_digest
from tests.data.hub_directories import card_of, written
from tests.models.directories import model_directory
from tests.ranking.pairrm_directory import write

ROOT = Path(__file__).resolve().parents[2]
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
    """Return a command line that reads the stand-ins."""
    paths = {"prompts": "prompts", "ranker": "PairRM-hf", "model": model}
    here = [f"{key}.path={stand_ins / name}" for key, name in paths.items()]
    keys = {word.partition("=")[0] for word in words}
    fewer = [word for word in FEWER if word.partition("=")[0] not in keys]
    return [sys.executable, str(ROOT / "train.py"), *here, *fewer, *words, f"paths.outputs={outputs}"]


def run(line: list[str], *, until: str = "") -> str:
    """Return what a command says on the screen; with `until`, kill it as soon as a line on the screen matches."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        said = []
        for printed in process.stdout:
            said.append(printed)
            if until and re.search(until, printed):
                process.send_signal(signal.SIGKILL)
                process.wait(60)
                return "".join(said)
        assert process.stderr
        error = process.stderr.read()
        assert process.wait(60) == 0, error
        assert not until, f"no line matches {until!r}: {said}"
        return "".join(said)


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


def results(outputs: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the figures of the one run in a directory, and digests of its trained weights."""
    (summary,) = (outputs / "train").glob("*/summary.json")
    figures = json.loads(summary.read_text(encoding="utf-8"))
    weights = {str(path.relative_to(outputs)): file_digest(path) for path in sorted((outputs / "policy").glob("*/*.safetensors"))}
    return {name: value for name, value in figures.items() if not name.startswith("seconds")}, weights


@pytest.mark.parametrize(
    ("recipe", "model", "words"),
    [("snorkel_mistral", "mistral", []), ("snorkel_mistral", "qwen2", ["quant=none"]), ("sppo", "mistral", SLOWLY)],
    ids=["snorkel-4bit", "snorkel-qwen", "sppo"],
)
def test_a_recipe_runs_its_three_rounds(recipe: str, model: str, words: list[str], stand_ins: Path, tmp_path: Path) -> None:
    said = run(command(stand_ins, tmp_path, f"experiment={recipe}", *words, model=model))
    assert_promised(recipe, said, tmp_path)
    kinds = {kind: len(list((tmp_path / kind).glob("*/manifest.json"))) for kind in ("candidates", "ranking", "pairs", "policy")}
    assert kinds == dict.fromkeys(kinds, 3)


def test_given_pairs_are_trained_by_their_recipe(stand_ins: Path, tmp_path: Path, shared_data: Path) -> None:
    pairs = shared_data / "hub_layout" / "Snorkel-style-PairRM-DPO"
    if not pairs.is_dir():
        pytest.skip(f"no {pairs.name} in ../shared/data/hub_layout")
    line = [sys.executable, str(ROOT / "train.py"), "experiment=mistral_pairrm", f"model.path={stand_ins / 'mistral'}"]
    rows = [f"data.path={pairs}", "data.split=train_iteration_1", "data.max_dropped=0.1"]
    said = run([*line, *rows, "precision=fp32", "trainer.max_pairs=8", f"paths.outputs={tmp_path}"])
    assert_promised("mistral_pairrm", said, tmp_path)


def test_a_recipe_killed_in_every_round_ends_as_one_that_was_not(stand_ins: Path, tmp_path: Path) -> None:
    words = ("experiment=snorkel_mistral", "quant=none")
    run(command(stand_ins, tmp_path / "whole", *words))
    line = command(stand_ins, tmp_path / "killed", *words)
    for until in (r"^1 model", r"round 1/3", r"round 2/3"):
        run(line, until=until)
        time.sleep(0.1)
    run(line)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
