"""The commands of the pages in docs/ that are followed from start to end compose, and their parts are built."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dpo_lab.cli.build import build
from dpo_lab.cli.conf import stages
from dpo_lab.conf_files import CONF

DOCS = Path(__file__).resolve().parents[1] / "docs"


def commands(page: str) -> list[list[str]]:
    """Return stage and overrides of every command in the bash blocks of a page.

    >>> commands("mistral7b.md")[0][:2]
    ['doctor', 'model=mistral7b']
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.S | re.M)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [[Path(words[1]).stem, *words[2:]] for words in lines if words[:1] == ["python"]]


def test_the_page_of_a_7b_has_a_command_of_every_stage_of_the_way() -> None:
    typed = {stage for stage, *_ in commands("mistral7b.md")}
    assert {"doctor", "sample", "rank", "train", "evaluate", "export", "publish"} <= typed


@pytest.mark.parametrize("words", commands("mistral7b.md"), ids=" ".join)
def test_a_command_of_the_page_of_a_7b_composes_and_its_parts_are_built(words: list[str]) -> None:
    stage, *overrides = words
    assert stage in stages()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        build(compose(stage, overrides, return_hydra_config=True))
