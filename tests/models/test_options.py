"""Each model of conf/model states what it is, and its numbers fit the model."""

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from dpo_lab.cli.build import build
from dpo_lab.cli.conf import options
from dpo_lab.conf_files import CONF
from dpo_lab.models.spec import PretrainedModel

OPTIONS = [name for name in options("model") if name != "tiny"]
ON_THE_HUB = [name for name in OPTIONS if name != "local"]


def built(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose("train", list(overrides), return_hydra_config=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_states_template_context_and_a_recipe_with_its_source(name: str) -> None:
    text = Path(CONF, "model", f"{name}.yaml").read_text(encoding="utf-8")
    for line in (r"# Template: .+\.$", r"# Context: .+\.$", r"# Recipe: lora; .*\d+ tokens.*\.$"):
        assert re.search(line, text, re.M), line


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_rows_of_the_recipe_fit_the_context_and_leave_room_for_an_answer(name: str) -> None:
    text = Path(CONF, "model", f"{name}.yaml").read_text(encoding="utf-8")
    context = int(re.search(r"# Context: (\d+) tokens", text)[1])  # type: ignore[index]
    run = built(f"model={name}")
    assert run.data.max_length + 256 <= context  # 256: conf/sampler
    assert isinstance(run.model, PretrainedModel)
    assert run.model.licence != "unknown"
    assert run.model.parameters is not None


def test_a_models_own_length_yields_to_the_command_line_and_stays_with_the_model() -> None:
    assert built("model=gpt2").data.max_length == 512
    assert built("model=gpt2", "recipe.max_length=128").data.max_length == 128
    assert built("model=gpt2", "adapter=none").data.max_length == 512
    assert built("model=smollm2_135m").data.max_length == 1024


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_licence_consent_and_size_are_no_part_of_what_is_made(name: str) -> None:
    assert not {"licence", "gated", "parameters"} & set(built(f"model={name}").model.content())
