"""The stage `evaluate` on answers that were made elsewhere: files of several formats, compared by a judge on the same prompts."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from dpo_lab.cli.main import main
from dpo_lab.components import ConfigError, RunError, component
from dpo_lab.data.answers.columns import AnswerColumns
from dpo_lab.data.problems import DataError
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.records import Candidates, Prompt, write_jsonl
from dpo_lab.stages.evaluate import Evaluate
from dpo_lab.training.settings import TrainerSettings

ASKED = [f"What is {number}?" for number in range(12)]
LONG = ["so " * 9 + "so"] * 12
SHORT = ["so so"] * 8 + ["no " * 10 + "no"] * 2 + LONG[:2]
"""Beside LONG, by the judge that likes short answers: 8 wins, 2 losses, 2 ties."""


@component
class Beside(Ranker):
    """Likes short answers when it sees two, and the first place where they are equally long; says nothing about some prompts."""

    label = "beside"
    scores_alone = False
    scores_places = True
    silent_about: str = "nothing"

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        return [
            Verdict(scores=tuple(self.liking(candidate, at) for at in range(len(candidate.responses))))
            for candidate in candidates
        ]

    def liking(self, asked: Candidates, at: int) -> float:
        return float("nan") if self.silent_about in asked.prompt.text else -len(asked.responses[at]) - at / 10


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with the same prompts answered in the formats of AlpacaEval, `sample`, a table and plain rows."""
    outputs = [{"instruction": q, "output": a, "generator": "long", "dataset": "x"} for q, a in zip(ASKED, LONG, strict=True)]
    (tmp_path / "model_outputs.json").write_text(json.dumps(outputs))
    rows = [{"prompt": f"{q}\n", "response": a} for q, a in zip(ASKED, SHORT, strict=True)]
    write_jsonl(tmp_path / "short.jsonl", reversed(rows))
    (tmp_path / "sampled").mkdir()
    own = [Candidates(prompt=Prompt.from_text(q), responses=(a,), finished=(True,)) for q, a in zip(ASKED, SHORT, strict=True)]
    write_jsonl(tmp_path / "sampled" / "candidates.jsonl", (each.to_record() for each in own))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *zip(ASKED, SHORT, strict=True)])
    return tmp_path


def evaluate(place: Path, *files: str, **fields: Any) -> Evaluate:
    parts = {"judge": LengthRanker(), "trainer": TrainerSettings(accelerator="cpu"), "outputs": place / "outputs"}
    return Evaluate(answers=tuple(place / name for name in files), **{**parts, **fields})


def figures(report: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in report["parts"][0]["figures"]}


def refused(place: Path, *files: str, **fields: Any) -> str:
    with pytest.raises((ConfigError, DataError, RunError)) as caught:
        evaluate(place, *files, **fields).run()
    assert "\n" not in str(caught.value)
    assert not list(place.glob("outputs/evaluation/*/manifest.json"))
    assert not list(place.glob("outputs/evaluation/*/report*"))
    return str(caught.value)


@pytest.mark.parametrize("other", ["short.jsonl", "sampled/candidates.jsonl", "sampled", "table.csv"])
@pytest.mark.parametrize("judge", [LengthRanker(), Beside()])
def test_a_file_wins_what_its_answers_win_whatever_its_format(place: Path, other: str, judge: Ranker) -> None:
    report = evaluate(place, "model_outputs.json", other, judge=judge).run()
    found, name = figures(report), report["models"][1]["name"]
    assert found["win_rate"]["values"][name]["value"] == (8 + 0.5 * 2) / 12
    assert found["win_rate"]["values"]["model_outputs.json"] == {"value": 0.5, "low": None, "high": None}
    assert found["answers/characters"]["values"][name]["value"] == np.mean([len(each) for each in SHORT])
    assert found["answers/distinct_1"]["values"][name]["value"] == (8 + 2 + 2) / (8 * 2 + 2 * 11 + 2 * 10)  # all words, all alike
    (comparison,) = found["win_rate"]["comparisons"]
    wins = np.array([1.0] * 8 + [0.0] * 2 + [0.5] * 2)
    assert abs(comparison["difference"]) == pytest.approx((wins - 0.5).mean())
    assert comparison["prompts"] == 12
    assert comparison["differing"] == 10


def test_three_files_are_compared_at_once_and_written_down(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(place / "shorter.jsonl", ({"prompt": q, "response": "so"} for q in ASKED))
    stage = evaluate(place, "model_outputs.json", "short.jsonl", "shorter.jsonl")
    report = stage.run()
    found = figures(report)["win_rate"]["comparisons"]
    assert [each["family"] for each in found] == [3, 3, 3]
    assert [each["p_holm"] for each in found] == pytest.approx(multipletests([each["p"] for each in found], method="holm")[1])
    said = capsys.readouterr().out
    assert "  model_outputs.json: 12 answers; read: prompt=instruction, responses=output" in said
    assert "shorter.jsonl is better than model_outputs.json on these 12 prompts (difference .50" in said
    (written,) = place.glob("outputs/evaluation/*/manifest.json")
    assert json.loads((written.parent / "report.json").read_text()) == report
    assert "shorter.jsonl is better than" in (written.parent / "report.html").read_text()
    lines = [json.loads(line) for line in (written.parent / "verdicts.jsonl").read_text().splitlines()]
    of_wins = [line for line in lines if line["figure"] == "win_rate"]
    assert len(of_wins) == 12
    assert sum(win["short.jsonl"] for win in of_wins) == 9
    assert not (written.parent / "kept").exists()
    before = written.stat().st_mtime_ns
    assert stage.run() == report  # found again, not judged again
    assert written.stat().st_mtime_ns == before


def test_prompts_about_which_the_judge_says_nothing_do_not_count(place: Path) -> None:
    report = evaluate(place, "model_outputs.json", "short.jsonl", judge=Beside(silent_about="1")).run()  # 1, 10 and 11
    assert figures(report)["win_rate"]["values"]["short.jsonl"]["value"] == 7 / 9
    assert "3 prompts not measured for every model" in report["parts"][0]["notes"][0]


def test_a_judge_that_says_nothing_at_all_leaves_nothing_that_counts_as_finished(place: Path) -> None:
    files = ("model_outputs.json", "short.jsonl")
    assert refused(place, *files, judge=Beside(silent_about="What")).startswith("judge=beside failed for each prompt")


def test_files_with_different_prompts_are_refused_or_compared_on_what_they_share(place: Path) -> None:
    rows = [{"prompt": q, "response": "so"} for q in [*ASKED[2:], "Why?"]]
    write_jsonl(place / "other.jsonl", rows)
    said = refused(place, "model_outputs.json", "other.jsonl")
    assert "2 prompts in model_outputs.json only (row 1: 'What is 0?'); 1 prompt in other.jsonl only (row 11: 'Why?')" in said
    assert said.endswith("or type shared=true to compare them on the 10 prompts that both answer.")
    report = evaluate(place, "model_outputs.json", "other.jsonl", shared=True).run()
    assert figures(report)["win_rate"]["comparisons"][0]["prompts"] == 10
    write_jsonl(place / "none.jsonl", rows[-1:])
    with pytest.raises(ConfigError, match="no prompt is answered in all of"):
        evaluate(place, "model_outputs.json", "none.jsonl", shared=True).run()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "bad.jsonl has no rows, so there are no answers to compare"),
        ([{"output": "so"}], "none of them is known as a prompt. Type columns.prompt=NAME columns.responses=output"),
        ([{"prompt": "Why?"}], "none is known as an answer. Type columns.responses=NAME"),
        ([{"prompt": "Why?", "responses": ["so", "no"]}], "the prompt has 2 answers, and a file holds one answer to each prompt"),
        ([{"prompt": "Why?", "output_1": "so", "output_2": "no"}], "columns.responses=output_1; or columns.responses=output_2"),
        ([{"prompt": "Why?", "response": "so"}] * 2, "row 2: the prompt 'Why?' of bad.jsonl row 1 again"),
        (
            [{"prompt": "Why?", "response": "so"}, {"prompt": "", "response": "no"}],
            "row 2 [empty_prompt], so nothing is compared",
        ),
        (
            [{"prompt": "Why?", "response": 7}, {"prompt": "What?", "response": "no"}],
            "row 1 [wrong_type], so nothing is compared",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(place: Path, rows: list[dict[str, Any]], says: str) -> None:
    write_jsonl(place / "bad.jsonl", rows)
    said = refused(place, "model_outputs.json", "bad.jsonl")
    assert says in said
    assert "candidates." not in said
    assert "rank" not in said


def test_what_else_is_refused(place: Path) -> None:
    assert "a comparison takes two files or more" in refused(place, "table.csv")
    assert "table.csv twice" in refused(place, "table.csv", "table.csv")
    assert "against=x is not among the files" in refused(place, "table.csv", "short.jsonl", against="x")
    assert "Correct answers" in refused(place, "table.csv", "nowhere.jsonl")
    assert "judge has no value" in refused(place, "table.csv", "short.jsonl", judge=None)
    assert "answers compares files, and models something else" in refused(place, "table.csv", "short.jsonl", models=("x",))


def test_one_prompt_has_figures_and_no_interval(place: Path) -> None:
    for name, text in (("one.jsonl", "so"), ("other.jsonl", "")):
        write_jsonl(place / name, [{"prompt": "Why?", "response": text}])
    report = evaluate(place, "one.jsonl", "other.jsonl").run()
    found = figures(report)
    assert {(each["low"], each["high"]) for one in found.values() for each in one["values"].values()} == {(None, None)}
    assert found["win_rate"]["values"]["other.jsonl"]["value"] == 1.0  # an empty answer is an answer
    assert found["win_rate"]["comparisons"][0]["sentence"].startswith("one prompt cannot tell one.jsonl and other.jsonl apart")


def test_a_column_is_named(place: Path) -> None:
    rows = [{"prompt": q, "output_a": a, "output_b": b} for q, a, b in zip(ASKED, LONG, SHORT, strict=True)]
    write_jsonl(place / "both.jsonl", rows)
    columns = AnswerColumns(responses="output_b")
    write_jsonl(place / "long.jsonl", ({"prompt": q, "output_b": a} for q, a in zip(ASKED, LONG, strict=True)))
    report = evaluate(place, "long.jsonl", "both.jsonl", columns=columns).run()
    assert figures(report)["win_rate"]["values"]["both.jsonl"]["value"] == 0.75


def test_a_column_of_the_files_gives_a_table_by_category(place: Path) -> None:
    outputs = [
        {"instruction": q, "output": a, "dataset": "xyz"[at // 8]} for at, (q, a) in enumerate(zip(ASKED, LONG, strict=True))
    ]
    (place / "model_outputs.json").write_text(json.dumps(outputs))  # of 12 prompts: 8 are x, 4 are y
    assert "categories" in (part := evaluate(place, "model_outputs.json", "sampled").run()["parts"][0])
    assert part["categories"] == []
    report = evaluate(place, "model_outputs.json", "sampled", category="dataset").run()
    assert report["category"] == "dataset"
    x, y = report["parts"][0]["categories"]
    assert [(each["category"], each["prompts"]) for each in (x, y)] == [("x", 8), ("y", 4)]
    assert [each["figures"]["win_rate"]["sampled"]["value"] for each in (x, y)] == [1.0, (0 + 0.5 * 2) / 4]  # 2 losses and 2 ties
    assert x["figures"]["win_rate"]["model_outputs.json"] == {"value": 0.5, "low": None, "high": None}
    pages = [page.read_text() for page in place.glob("outputs/evaluation/*/report.html")]
    assert sum("<h3>By dataset</h3>" in page for page in pages) == 1


def test_a_category_that_no_file_or_two_files_tell_is_refused(place: Path) -> None:
    said = refused(place, "model_outputs.json", "short.jsonl", category="topic")
    assert said.endswith(
        "short.jsonl] has no such column; it has instruction, output, generator, dataset, prompt, response. Name one of these."
    )
    write_jsonl(place / "other.jsonl", ({"prompt": q, "response": "so", "dataset": "x" if q != ASKED[3] else "y"} for q in ASKED))
    said = refused(place, "model_outputs.json", "other.jsonl", category="dataset")
    assert "model_outputs.json row 4 says 'x' and other.jsonl row 4 'y' of the same prompt" in said


def test_a_category_of_answers_from_a_file_whose_rows_say_nothing_is_that_of_the_other_file(place: Path) -> None:
    write_jsonl(place / "other.jsonl", ({"prompt": q, "response": "so", "dataset": "" if q != ASKED[3] else "x"} for q in ASKED))
    report = evaluate(place, "other.jsonl", "model_outputs.json", category="dataset").run()
    assert [(each["category"], each["prompts"]) for each in report["parts"][0]["categories"]] == [("x", 12)]


def test_the_command_line(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    command = ["evaluate", "answers=[model_outputs.json,short.jsonl]", "judge=same", "ranker=length", "trainer=cpu"]
    assert main(command) == 0
    assert "short.jsonl         .75 [" in capsys.readouterr().out
    for word, why in (("loss=ipo", "no model is measured"), ("columns.preferred=x", "nobody preferred one of them")):
        assert main([*command, word]) != 0
        assert f"`{word}` has no effect: " in (said := capsys.readouterr().err)
        assert why in said
    assert main(["evaluate", "models=[x]", "judge=gold"]) != 0
    assert "`judge=gold` has no effect: no answers are compared. Use answers=[FILE,FILE]" in capsys.readouterr().err
    for word in ("loss=ipo", "seed=3", "category=topic", "judge=gold", "evaluation=generation"):
        assert main(["evaluate", "runs=[x,y]", word]) != 0
        assert f"`{word}` has no effect: what runs measured when they were trained is compared" in capsys.readouterr().err
