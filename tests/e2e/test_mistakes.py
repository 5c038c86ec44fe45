"""docs/mistakes.md: each mistake is answered as the table says, in one line, and what it says to type is accepted."""

import json
import re
import shlex
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from dpo_lab.components import RunError
from tests.e2e.until_work import end_before_work

TABLE = Path(__file__).resolve().parents[2] / "docs" / "mistakes.md"
ROWS = re.findall(r"^\| `([^|]+)` \| ([^|]+) \| (?:`([^|]+)`)? \|$", TABLE.read_text(encoding="utf-8"), re.M)
GLUED = r"(?<![(.\w])[a-z_]+(?:\.\w+)*=[^\s()=]*\w\.(?:\s|$)"
"""A full stop behind a setting, which a copy takes along."""
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_before_work(tmp_path, monkeypatch)
    monkeypatch.setattr("dpo_lab.pipeline.ranking.ranked", nothing_ranked)
    monkeypatch.setattr("dpo_lab.cli.plugins.is_installed", lambda package: False)  # whatever stands on this machine
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    Path("my_pairs.jsonl").write_text(json.dumps(pair))
    Path("answers.jsonl").write_text(json.dumps({"prompt": "Why?", "answers": ["Because.", "No."]}))


def nothing_ranked(*_: object, **__: object) -> None:
    raise RunError("accepted")


def words(command: str) -> list[str]:
    """Return the stage and its words."""
    program, first, *rest = shlex.split(command)
    return [first, *rest] if program == "dpo-lab" else [Path(first).stem, *rest]


def test_the_table_has_fifty_mistakes_and_no_row_is_lost() -> None:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(lines) >= 50


@pytest.mark.parametrize(("typed", "answered", "instead"), ROWS, ids=[row[0] for row in ROWS])
def test_a_mistake_is_answered_and_its_remedy_is_accepted(
    typed: str, answered: str, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(typed)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert answered in said
    assert not re.search(GLUED, said)
    if instead:
        code = main(words(instead))
        assert (code, set(re.findall("error: (.*)", capsys.readouterr().err)) - {"accepted"}) in ((1, set()), (1, {SWEEP}))


SWEEP = "2 of 2 jobs did not finish; the lines above say why. The same command runs what is missing."
