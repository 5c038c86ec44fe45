"""Every yaml of conf/ says what it is, composes, builds, and lists every field of its class."""

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from dpo_lab.cli.build import build
from dpo_lab.cli.conf import groups, options, stages
from dpo_lab.components import Component, refused_parts
from dpo_lab.conf_files import CONF
from dpo_lab.ranking.blender.ranker import KNOWN
from dpo_lab.rules import devices
from dpo_lab.rules.check import RULES, broken
from dpo_lab.training.settings import TrainerSettings

YAMLS = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))
OPTIONS = [name for name in YAMLS if name.count("/") == 1]


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def command_of(name: str) -> re.Match[str] | None:
    """Return the stage and the words of the command that a yaml's head shows."""
    return re.search(r"^# .*: python (?:scripts/)?(\w+)\.py(.*)$", (CONF / name).read_text(), re.M)


def first_command(name: str) -> list[str]:
    """Return the words behind the program of the command that a yaml's head shows, of a sweep those of its first job."""
    command = command_of(name)
    words = command[2].split() if command else []
    return [re.sub(r"=([^\[,]*),.*", r"=\1", word) for word in words if not word.startswith("-")]


@cache
def composed(stage: str, *words: str) -> DictConfig:
    """Return a stage's configuration, composed once for all tests of this file; none of them changes it."""
    return compose(stage, list(words), return_hydra_config=True)


def composed_from(name: str) -> DictConfig:
    """Return the stage of an option's command with it chosen, or another stage, with what its own command sets beside it."""
    folder, _, option = name.removesuffix(".yaml").rpartition("/")
    words, command = first_command(name), command_of(name)
    chosen = [f"{folder}={option}"] if folder and f"{folder}={option}" not in words else []
    stage = option if not folder else command[1] if command and command[1] in stages() else "train"
    return composed(stage, *chosen, *words)


def nodes(raw: Any) -> Iterator[dict[str, Any]]:
    """Yield every node that names a class."""
    if isinstance(raw, dict):
        if "_target_" in raw:
            yield raw
        for value in raw.values():
            yield from nodes(value)


def own_classes(name: str) -> list[type]:
    """Return the classes that a yaml itself names."""
    return [get_class(target) for target in re.findall(r"_target_: (\S+)", (CONF / name).read_text())]


@pytest.mark.parametrize("name", YAMLS)
def test_a_yaml_begins_with_what_it_is_and_the_command_that_uses_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my_scores.py").write_text("def score(prompt, answers):\n    return [len(answer) for answer in answers]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = (CONF / name).read_text().splitlines()
    header = [
        line for line in lines[: next(at for at, line in enumerate(lines) if not line.startswith("#"))] if "@package" not in line
    ]
    assert lines[0].startswith("#")
    folder, _, option = name.removesuffix(".yaml").rpartition("/")
    command = re.search(r": python (train\.py|scripts/\w+\.py)(.*)$", header[0])
    assert command, header
    named = command[2].split()
    assert folder in ("", "iteration", "paths", "debug/model", "debug/evaluation") or f"{folder}={option}" in named
    if command[1] == "train.py" and "--help" not in named:
        stage: Any = build(composed("train", *first_command(name)))
        monkeypatch.setattr(TrainerSettings, "check", Component.check)  # a GPU may be asked for
        monkeypatch.setattr("dpo_lab.ranking.blender.ranker.version", lambda _: KNOWN)  # an extra may be missing
        monkeypatch.setattr("dpo_lab.evaluation.benchmark.LMEvalBenchmark.figures", lambda *_: [])  # its tasks are on the Hub
        assert refused_parts(stage) == broken(stage, [rule for rule in RULES if rule not in devices.RULES]) == []


@pytest.mark.parametrize("name", [*OPTIONS, *(f"{stage}.yaml" for stage in stages())])
def test_a_yaml_composes_builds_and_lists_every_field(name: str) -> None:
    config = composed_from(name)
    stage = build(config)
    assert isinstance(stage, Component)
    raw = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), resolve=False)
    found = list(nodes(raw))
    for node in found:
        of_class = {field.name for field in fields(get_class(node["_target_"]))}
        shelves = set(groups()) if node is raw else set()
        assert set(node) - {"_target_"} - shelves == of_class - shelves, node["_target_"]
    own = {f"{kind.__module__}.{kind.__qualname__}" for kind in own_classes(name)}
    assert own <= {node["_target_"] for node in found}, "the option is not what was composed"


def test_every_directory_of_conf_is_a_group_and_every_group_has_options() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == set(groups())
    assert all(options(group) for group in groups())


def test_what_only_one_model_or_evaluation_has_is_asked_of_it_alone_by_debug() -> None:
    for path in sorted(CONF.glob("debug/*/*.yaml")):
        debug, _, option = path.stem.partition("_")
        assert (CONF / "debug" / f"{debug}.yaml").is_file()
        assert option in options(path.parent.name)


@pytest.mark.parametrize(
    ("model", "debug", "steps", "epochs"),
    [
        *((model, "fast", 3, None) for model in options("model")),
        *((model, "overfit", None, 100) for model in ("tiny", "smollm2_135m")),
        *((model, "profile", 6, 6) for model in ("tiny", "smollm2_135m")),
    ],
)
def test_debug_shortens_every_model(model: str, debug: str, steps: int | None, epochs: int | None) -> None:
    words = [f"debug={debug}", *first_command(f"model/{model}.yaml")]
    config = composed("train", *words)
    assert isinstance(build(config), Component)
    assert config.trainer.max_steps == steps
    assert config.trainer.epochs == (epochs or config.recipe.epochs)
    assert (config.sampler.num_samples, config.iteration.rounds) == (2, 1)


def test_numbers_of_a_recipe_have_a_source() -> None:
    for path in sorted(Path(CONF, "recipe").glob("*.yaml")):
        values = [line for line in path.read_text().splitlines() if re.match(r"[a-z]", line)]
        assert all(re.search(r" # \S", line) for line in values), path


def test_no_value_is_written_twice_in_a_recipe_and_in_a_part() -> None:
    """What a recipe holds is read by ${recipe.*} somewhere, so that setting it has an effect."""
    text = "\n".join(path.read_text() for path in CONF.glob("*/*.yaml"))
    for name in re.findall(r"^([a-z_]+):", (CONF / "recipe" / "lora.yaml").read_text(), re.M):
        assert f"${{recipe.{name}}}" in text
        for recipe in options("recipe"):
            assert re.search(rf"^{name}:", (CONF / "recipe" / f"{recipe}.yaml").read_text(), re.M)
