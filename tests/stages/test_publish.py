"""The stage `publish` from the command line."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from dpo_lab.cli.build import build
from dpo_lab.cli.main import main
from dpo_lab.conf_files import CONF
from dpo_lab.stages.publish import Publish
from tests.publishing.made import conversations, made_pairs

ROOT = Path(__file__).resolve().parents[2]
TEXTS = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/publishing.md"))
COMMANDS = sorted(set(re.findall(r"^(?:python scripts/publish\.py|dpo-lab publish)( .*)$", TEXTS, re.M)))


def test_a_folder_is_written_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = made_pairs(Path("outputs"), conversations(3)).path
    assert main(["publish", f"source={pairs}", "licence=mit"]) == 0
    said = capsys.readouterr().out
    assert "nothing has left this machine" in said
    assert main(["publish", f"source={pairs}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the licence of the training pairs")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push=true"], "push=true requires the repository: repo=OWNER/NAME"),
        (["push=true", "repo=pairs"], "repo=pairs is not the name of a repository, which is OWNER/NAME."),
        (["private=false"], "nothing is uploaded (push=false)"),
        (["what=model", "test_share=0.1"], "a model has no splits"),
        (["licence=unknown"], "licence=unknown states none."),
        (["what=set"], "what=set: Input should be 'auto', 'pairs' or 'model'."),
        (["test_share=1"], "test_share=1: Input should be less than 1."),
        (["token=hf_x"], "token is neither a group nor a key."),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "source=outputs/train/RUN", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_composes_and_is_built(command: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        stage = build(compose("publish", shlex.split(command, comments=True), return_hydra_config=True))
    assert isinstance(stage, Publish)
    stage.check()


def test_the_documents_name_commands() -> None:
    assert len(COMMANDS) >= 4
