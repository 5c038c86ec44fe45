"""The stage `alpaca_eval`: answers in AlpacaEval's format, and win rates of its annotations."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.main import main
from dpo_lab.components import ConfigError, RunError
from dpo_lab.records import Candidates, Prompt, write_jsonl
from dpo_lab.stages.alpaca_eval import AlpacaEval


def test_the_first_answer_to_each_prompt_is_written_in_alpaca_evals_format(tmp_path: Path) -> None:
    sets = [Candidates(prompt=Prompt.from_text(f"q{number}"), responses=(f"a{number}", "other")) for number in range(2)]
    write_jsonl(tmp_path / "candidates.jsonl", (one_set.to_record() for one_set in sets))
    assert AlpacaEval(answers=tmp_path / "candidates.jsonl", generator="mine", outputs=tmp_path).run() == {"answers": 2}
    written = json.loads((tmp_path / "alpaca_eval" / "mine" / "model_outputs.json").read_text(encoding="utf-8"))
    assert written == [{"instruction": f"q{number}", "output": f"a{number}", "generator": "mine"} for number in range(2)]


def test_annotations_give_raw_and_length_controlled_win_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"instruction": f"q{at}", "output_1": "x" * 10, "output_2": "x" * (5 + at), "preference": each}
        for at, each in enumerate((2.0, 1.75, 1.5, 1.0, 1.25, 1.5))
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    found = AlpacaEval(annotations=tmp_path / "annotations.json").run()
    assert found["win_rate"] == pytest.approx(50.0)  # (1 + .75 + .5 + 0 + .25 + .5) / 6
    assert 0 < found["length_controlled_winrate"] < 100
    told = capsys.readouterr().out
    assert "win rate                    50.00 %" in told
    assert "without variants=[...]" in told


def test_what_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"give one of answers=FILE"):
        AlpacaEval().run()
    with pytest.raises(ConfigError, match="no such file"):
        AlpacaEval(answers=tmp_path / "nowhere.jsonl").run()
    (tmp_path / "no.jsonl").write_text(json.dumps({"output": "an answer without a prompt"}))
    with pytest.raises(RunError, match="holds no answers with their prompts"):
        AlpacaEval(answers=tmp_path / "no.jsonl").run()


def test_the_commands_of_the_documentation_run_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    written, read = re.findall(r"^python scripts/alpaca_eval\.py (.*)$", said, re.M)
    monkeypatch.chdir(tmp_path)
    answers = tmp_path / "outputs" / "candidates" / "NAME" / "candidates.jsonl"
    answers.parent.mkdir(parents=True)
    write_jsonl(answers, [Candidates(prompt=Prompt.from_text("q"), responses=("a", "b")).to_record()])
    assert main(["alpaca_eval", *shlex.split(written)]) == 0
    assert (tmp_path / "outputs" / "alpaca_eval" / "mine" / "model_outputs.json").is_file()
    rows = [
        {"instruction": f"q{at}", "output_1": "x" * 10, "output_2": "x" * (5 + at), "preference": 1 + at % 4 / 3}
        for at in range(8)
    ]
    for name in ("annotations", "verbose", "concise"):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    (tmp_path / "difficulties.json").write_text(json.dumps([{"instruction": f"q{at}", "difficulty": at / 8} for at in range(8)]))
    assert main(["alpaca_eval", *shlex.split(read)]) == 0
    assert "win rate                    50.00 %" in capsys.readouterr().out
    (example,) = re.findall(r"```python\n(from pathlib import Path\n.*?)```", said, re.S)
    for name in ("verbose", "concise"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "annotations.json").write_text(json.dumps(rows))
    exec(example, {})
    assert float(capsys.readouterr().out.split()[0]) == pytest.approx(50.0)


@pytest.mark.parametrize("key", ["answers", "annotations"])
def test_a_misspelt_path_is_answered_with_the_file_that_is_meant(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    Path("outputs/answers.jsonl").touch()
    for path, said in (
        ("outptus/answers.jsonl", f"no such file. Did you mean '{key}=outputs/answers.jsonl'?"),
        ("outputs/anwers.jsonl", f"no such file. Did you mean '{key}=outputs/answers.jsonl'?"),
        ("outputs", f"a directory stands there. Correct {key} (now in {tmp_path})."),
        ("nothing/like/it", f"no such file. Correct {key} (now in {tmp_path})."),
    ):
        given: dict[str, Any] = {key: Path(path)}
        with pytest.raises(ConfigError) as refused:
            AlpacaEval(**given).run()
        assert str(refused.value) == f"{key}={path}: {said}"
