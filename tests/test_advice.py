"""What a message tells a person to type exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dpo_lab.cli.conf import groups
from dpo_lab.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
TAKEN = "evaluation.prompts.held_out cannot be set there: evaluation.prompts is taken from prompts, which has no held_out. "
MESSAGES = {
    "evaluation.prompts.held_out=20": f"{TAKEN}Valid in prompts: num_prompts.",
    "evaluation.prompts.held_out=20 prompts=ultrafeedback": (
        f"{TAKEN}Did you mean 'prompts.num_held_out'? "
        "Valid in prompts: answer, config, held_out_split, licence, num_held_out, num_prompts, path, revision, split."
    ),
    "data.sampler.top_pp=1": (
        "data.sampler.top_pp cannot be set there: data.sampler is taken from sampler, which has no top_pp. "
        "Did you mean 'sampler.top_p'? Valid in sampler: batch_size, max_new_tokens, min_p, num_samples, repetition_penalty, "
        "stop, temperature, top_k, top_p."
    ),
    "evaluation.judge.temperature=1 judge=same": (
        "evaluation.judge.temperature cannot be set there: evaluation.judge is taken from ranker. Write ranker.temperature=..."
    ),
    "--lr=1e-4": "--lr=1e-4: settings have no dashes. Write optim.lr=1e-4 or recipe.lr=1e-4",
    "--seed 1": "--seed: settings have no dashes. Write seed=1",
    "--lrr=1": "--lrr=1 is not an option. Valid: --cfg, --package, --config-dir, --info, --multirun, --shell-completion, "
    "--resolve, --hydra-help, --help, --version; settings are written key=value",
}


@pytest.mark.parametrize("command", MESSAGES)
def test_a_misplaced_key_is_answered_with_keys_that_exist(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["train", *command.split()]) == 2
    assert capsys.readouterr().err == f"error: {MESSAGES[command]}\n"


def keys_below(node: Any, before: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{before}{name}"
        yield from keys_below(value, f"{before}{name}.")


def test_every_setting_that_a_message_names_is_a_key_of_its_group() -> None:
    known: set[str] = set()
    for path in (ROOT / "conf").glob("*/*.yaml"):
        below = "" if "@package _global_" in path.read_text() else f"{path.parent.name}."
        known |= set(keys_below(OmegaConf.to_container(OmegaConf.load(path), resolve=False), below))
    named = re.compile(rf"(?<![\w./{{@-])((?:{'|'.join(groups())})\.[a-z_0-9.]*[a-z_0-9])(?==)")
    found = [
        (path.name, node.lineno, match[1])
        for path in sorted((ROOT / "dpo_lab").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in named.finditer(node.value)
    ]
    assert len(found) > 50
    assert [each for each in found if each[2] not in known] == []
