"""The stage `alpaca_eval`: answers in AlpacaEval's format, and win rates of its annotations."""

import json
from pathlib import Path

import pytest

from dpo_lab.components import ConfigError, RunError
from dpo_lab.records import Candidates, Prompt, write_jsonl
from dpo_lab.stages.alpaca_eval import AlpacaEval


def test_the_first_answer_to_each_prompt_is_written_in_alpaca_evals_format(tmp_path: Path) -> None:
    sets = [Candidates(prompt=Prompt.from_text(f"q{number}"), responses=(f"a{number}", "other")) for number in range(2)]
    write_jsonl(tmp_path / "candidates.jsonl", (each.to_record() for each in sets))
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
