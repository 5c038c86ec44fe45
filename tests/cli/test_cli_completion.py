"""Completion in bash as the README documents it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.cli.arguments import TOOLS
from dpo_lab.cli.completion import script
from dpo_lab.cli.conf import options, stages
from dpo_lab.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")


def completed(line: str, program: str = "") -> list[str]:
    """Return what bash offers at the end of a line; `program` is shell code that stands for dpo-lab."""
    code = f"""{script()}
{program}
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _dpo_lab_completion; printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p dpo-lab python >/dev/null || echo unregistered"""
    done = subprocess.run([str(BASH), "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_first_word_is_a_stage_or_a_tool() -> None:
    assert completed("dpo-lab ") == [*stages(), *TOOLS]
    assert completed("dpo-lab tra") == ["train "]
    assert completed("dpo-lab nothing los") == [""]


def test_python_with_another_script_is_left_alone() -> None:
    assert completed("python other.py los") == [""]
    assert completed("python -m los") == [""]


def test_what_hydra_answers_is_offered_behind_the_sign_where_bash_splits() -> None:
    call = "dpo-lab seed=1 loss=dp|train -sc query=bash"
    answer = f'dpo-lab() {{ [ "$COMP_LINE|$*" = "{call}" ] && echo "loss=dpo loss=dpop _target_="; }}'
    assert completed("dpo-lab train seed=1 loss=dp", answer) == ["dpo", "dpop"]
    assert completed("dpo-lab train seed=1 loss=dp", f"COMP_WORDBREAKS=' '; {answer}") == ["loss=dpo", "loss=dpop"]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["dpo-lab train", "python train.py", "python scripts/train.py"])
def test_groups_options_and_keys_are_completed(program: str) -> None:
    ours = f'python() {{ {sys.executable} "$@"; }}; dpo-lab() {{ {sys.executable} scripts/"$1".py "${{@:2}}"; }}'
    assert "loss=" in completed(f"{program} lo", ours)
    assert completed(f"{program} loss=", ours) == options("loss")
    assert completed(f"{program} data=jsonl data.pa", ours) == ["data.path="]


def test_completion_of_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 2
    assert capsys.readouterr().err.endswith("Write dpo-lab completion\n")
