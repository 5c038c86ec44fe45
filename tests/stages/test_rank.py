"""The stage `rank`: answers of a file are ranked once, paired as one likes, compared with people, and trained on."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.main import main
from dpo_lab.data.load import load_pairs
from tests.models.directories import model_directory
from tests.ranking.pairrm_directory import write

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
Capture = pytest.CaptureFixture[str]

MODULE = """
from pathlib import Path

def score(prompt, answers):
    with Path("calls.txt").open("a") as file:
        file.write(prompt + chr(10))
    if "NaN" in prompt:
        return [float("nan")] * len(answers)
    return [len(answer) for answer in answers][: 1 if "few" in prompt else None]
"""


@pytest.fixture(autouse=True)
def _in_a_directory_with_a_ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("own_scores", None)
    Path("own_scores.py").write_text(MODULE)


FUNCTION = ["ranker=function", "ranker.path=own_scores:score"]


def rank(*words: str, path: str = "answers.jsonl") -> int:
    return main(["rank", f"candidates.path={path}", "trainer=cpu", *words])


def answers(*rows: dict[str, Any]) -> None:
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(kind: str, file: str) -> list[dict[str, Any]]:
    (path,) = Path("outputs", kind).glob(f"*/{file}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def refusal(capsys: Capture, *words: str, path: str = "answers.jsonl") -> str:
    assert rank(*words, path=path) != 0
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("program", "train"), [("bin/dpo-lab", "dpo-lab train"), ("../lab/scripts/rank.py", "python ../lab/train.py")]
)
def test_answers_are_ranked_and_paired_and_the_screen_says_where(
    program: str, train: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    answers({"prompt": "Why?", "responses": ["No.", "So it is.", "Yes!!"]}, {"prompt": "How?", "responses": ["ab", "abc"]})
    assert rank(*FUNCTION) == 0
    assert [row["scores"] for row in made("ranking", "candidates.jsonl")] == [[3.0, 9.0, 5.0], [2.0, 3.0]]
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in made("pairs", "pairs.jsonl")]
    assert pairs == [("So it is.", "No."), ("abc", "ab")]
    said = capsys.readouterr().out
    assert "5 answers to 2 prompts" in said
    (path,) = Path("outputs/pairs").glob("*/pairs.jsonl")
    assert f"next    {train} data=jsonl data.path={path}\n" in said


def test_the_ranker_is_pairrm_unless_another_one_is_named() -> None:
    write(Path("tiny"))
    answers({"prompt": "Which film?", "responses": ["It is good.", "No."]})
    assert rank("ranker.path=tiny") == 0
    assert list(Path("outputs/ranking").glob("answers-pairrm-*"))


def test_another_pairing_or_the_same_command_ranks_nothing_again(capsys: Capture) -> None:
    answers({"prompt": "Why?", "responses": ["No.", "So it is."]}, {"prompt": "How?", "responses": ["ab", "abc"]})
    assert rank(*FUNCTION) == 0
    calls = Path("calls.txt").read_text()
    assert calls.splitlines()[:2] == ["Why?", "How?"]  # and again for its order
    assert rank(*FUNCTION, "pairing.min_gap=2") == 0
    assert rank(*FUNCTION) == 0
    assert Path("calls.txt").read_text() == calls
    assert "ranked before; force=true ranks again" in capsys.readouterr().out
    assert sorted(len(path.read_text().splitlines()) for path in Path("outputs/pairs").glob("*/pairs.jsonl")) == [1, 2]


def test_two_rankers_of_the_same_answers_are_compared(capsys: Capture) -> None:
    answers({"prompt": "Why?", "responses": ["No.", "So it is."]}, {"prompt": "How?", "responses": ["ab", "abc d"]})
    assert rank("ranker=length") == 0  # the shorter one in words
    assert "agrees with" not in capsys.readouterr().out
    assert rank(*FUNCTION) == 0  # the longer one in characters
    assert re.search(r"agrees with answers-length-\w+: .00 of pairs in the same order, .00 with", capsys.readouterr().out)
    (page,) = Path("outputs/ranking").glob("answers-function-*/ranking_report.html")
    assert "answers-length-" in page.read_text()


def test_scores_and_probabilities_stand_in_the_pairs_as_data_reads_them() -> None:
    write(Path("tiny"))
    answers(*({"prompt": "Which film?", "responses": [f"It is {word}.", "No."]} for word in ("good", "bad")))
    assert rank("ranker=pairrm", "ranker.path=tiny") == 0
    (path,) = Path("outputs/pairs").glob("*/pairs.jsonl")
    read, _ = load_pairs(path, max_dropped=0)
    rows = made("pairs", "pairs.jsonl")
    assert [(pair.score_chosen, pair.score_rejected, pair.preference) for pair in read] == [
        (row["score_chosen"], row["score_rejected"], row["preference"]) for row in rows
    ]
    assert all(pair.preference and 0.5 < pair.preference < 1 for pair in read)


def test_sampled_answers_are_ranked_with_their_tokens() -> None:
    model_directory(Path("model"), "qwen2")
    Path("asked.jsonl").write_text("".join(json.dumps({"prompt": f"Question {number}?"}) + "\n" for number in range(5)))
    words = ["model=local", "model.path=model", "prompts=jsonl", "prompts.path=asked.jsonl", "trainer=cpu"]
    assert main(["sample", *words, "sampler.num_samples=3", "sampler.max_new_tokens=4"]) == 0
    (drawn,) = Path("outputs/candidates").glob("*/candidates.jsonl")
    assert rank(*FUNCTION, path=str(drawn.parent)) == 0  # the artifact's directory
    sampled = [json.loads(line) for line in drawn.read_text().splitlines()]
    ranked = made("ranking", "candidates.jsonl")
    names = ("prompt", "responses", "token_ids", "logps", "finished")
    assert [[row[name] for name in names] for row in ranked] == [[row[name] for name in names] for row in sampled]


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["directory", "file"])
def test_a_training_takes_the_pairs(whole: bool, capsys: Capture) -> None:
    answers(*({"prompt": f"Why {number}?", "responses": ["No.", "So it is.", "Yes!"]} for number in range(20)))
    assert rank(*FUNCTION) == 0
    (path,) = Path("outputs/pairs").glob("*/pairs.jsonl")
    place = path.parent if whole else path
    assert main(["train", "data=jsonl", f"data.path={place}", "debug=fast", "loss=odpo"]) == 0, capsys.readouterr().err
    assert "16 pairs, 4 held out" in capsys.readouterr().out


def test_labelled_pairs_say_how_the_ranker_agrees_with_people(capsys: Capture) -> None:
    write(Path("tiny"))
    answers(*({"input": f"Why {n}?", "output_1": "It is good.", "output_2": f"It is {n}.", "label": 1 + n % 2} for n in range(9)))
    assert rank("ranker=pairrm", "ranker.path=tiny") == 0
    (path,) = Path("outputs/ranking").glob("*/ranking_report.json")
    report = json.loads(path.read_text())
    assert (report["ranker"], report["labelled"], report["comparisons"]) == ("pairrm", 9, 9)
    facts = json.loads((path.parent / "manifest.json").read_text())["facts"]
    assert facts["people"] == {name: value for name, value in report.items() if name != "ranker"}
    assert [name for name, value in report.items() if value is None] == ["cycles"]  # two answers make no circle
    page = (path.parent / "ranking_report.html").read_text()
    assert "0.444 (0.189 to 0.733)" in page
    said = capsys.readouterr().out
    for words in ("accuracy", "log-loss", "first place", "both orders", "length", "longer wins"):
        assert f"    {words}" in said


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")
@pytest.mark.parametrize(
    ("file", "words", "comparisons", "ties"),
    [
        ("llmbar/natural.json", [], 54, 0),
        ("llmbar/faireval.json", [], 33, 0),
        ("tulu_human_eval/annotations.jsonl", [], 161, 68),
        ("pandalm/human.json", ["candidates.columns.responses=[response1,response2]"], 323, 14),
    ],
)
def test_public_labelled_pairs_go_through_the_same_stage(
    file: str, words: list[str], comparisons: int, ties: int, capsys: Capture
) -> None:
    assert main(["rank", f"candidates.path={SHARED / file}", "ranker=length", *words]) == 0, capsys.readouterr().err
    (path,) = Path("outputs/ranking").glob("*/ranking_report.json")
    report = json.loads(path.read_text())
    assert (report["comparisons"], report["people_tie"]) == (comparisons, ties)
    assert report["length_correlation"] < -0.9  # the shorter answer has the higher score


def test_scores_that_are_no_numbers_leave_their_prompt_out(capsys: Capture) -> None:
    answers({"prompt": "NaN?", "responses": ["a", "b"]}, {"prompt": "Why?", "responses": ["ab", "abc"]})
    assert rank(*FUNCTION) == 0
    assert "1 left out: function gave no number" in capsys.readouterr().out
    assert [row["prompt"][0]["content"] for row in made("ranking", "candidates.jsonl")] == ["Why?"]


def test_a_prompt_longer_than_the_ranker_reads_is_cut_and_ranked() -> None:
    write(Path("tiny"))
    answers({"prompt": "Which film? " * 2000, "responses": ["It is good.", "No."]})
    assert rank("ranker=pairrm", "ranker.path=tiny") == 0
    (row,) = made("ranking", "candidates.jsonl")
    assert len(row["scores"]) == 2
    assert row["prompt"][0]["content"].startswith("Which film? " * 1999)


def test_what_cannot_be_ranked_is_refused_in_one_line_and_what_was_ranked_is_kept(capsys: Capture) -> None:
    rows = [{"prompt": f"Why {number}?", "responses": ["a", "bc"]} for number in range(16)]
    answers(*rows, {"prompt": "Too few?", "responses": ["a", "bc"]})
    said = refusal(capsys, *FUNCTION)
    assert "ranker=function returned 1 score for 2 answers to the prompt 'Too few?'" in said
    asked = Path("calls.txt").read_text().splitlines()
    refusal(capsys, *FUNCTION)
    assert Path("calls.txt").read_text().splitlines() == [*asked, "Too few?"]  # the other 16 are not asked about again


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["candidates.columns.responses=nope"], "candidates.columns.responses=nope: answers.jsonl has no such column"),
        (["candidates.columns.prompt=promt"], "Did you mean candidates.columns.prompt=prompt?"),
        (["candidates.columns.answers=responses"], "candidates.columns.answers"),
        (["trainer.epochs=2"], "nothing is trained"),
    ],
)
def test_a_command_that_cannot_work_is_refused_in_one_line(words: list[str], said: str, capsys: Capture) -> None:
    answers({"prompt": "Why?", "responses": ["a", "b"]})
    assert said in refusal(capsys, "ranker=length", *words)


def test_a_ranker_that_does_not_fit_is_refused_before_it_is_loaded(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("model"))
    answers({"prompt": "Why?", "responses": ["a", "b"]})
    monkeypatch.setattr("dpo_lab.memory.loading.available", lambda _: 1e6)
    monkeypatch.setattr("dpo_lab.ranking.pairrm.ranker.load_network", lambda *_: pytest.fail("loaded"))
    said = refusal(capsys, "ranker=pairrm", "ranker.path=model")
    assert re.search(r"ranker=pairrm needs about 6\.\d+ MB, and this machine has 1 MB free\. Use a smaller model", said)


@pytest.mark.parametrize("combine", ["z_score", "borda", "majority"])
def test_members_of_an_ensemble_and_their_settings_are_named_on_the_command_line(combine: str) -> None:
    answers({"prompt": "Why?", "responses": ["a", "c c c", "b b"]})
    longer = [
        "+ranker@ranker.members.own=function",
        "ranker.members.own.path=own_scores:score",
        "ranker.members.length.prefers=longer",
    ]
    assert rank("ranker=ensemble", f"ranker.combine={combine}", *longer, "~ranker.members.pairrm") == 0
    (row,) = made("ranking", "candidates.jsonl")
    half = 1.5**0.5  # of three equally spaced numbers, the standard score of the greatest
    assert row["scores"] == pytest.approx([-half, half, 0.0] if combine == "z_score" else [0.0, 2.0, 1.0])


def test_a_file_that_is_nowhere_and_answers_that_a_ranker_cannot_judge_are_refused(capsys: Capture) -> None:
    answers({"prompt": "Why?", "responses": ["a", "b"]})
    assert "nope.json does not exist" in refusal(capsys, "ranker=length", path="nope.json")
    assert "names no film" in refusal(capsys, "ranker=gold")


def test_a_file_in_which_nothing_can_be_compared_is_refused(capsys: Capture) -> None:
    answers(
        {"prompt": "Why?", "responses": ["a", "a"]},
        {"prompt": "How?", "responses": ["a"]},
        {"prompt": "", "responses": ["a", "b"]},
    )
    said = refusal(capsys, "ranker=length")
    assert "none of 3 rows can be ranked: " in said
    assert "1 x empty_prompt" in said


def test_a_ranker_that_prefers_nothing_gives_no_pairs_and_no_advice_to_train(capsys: Capture) -> None:
    answers({"prompt": "Why?", "responses": ["ab", "ac"]})
    assert rank(*FUNCTION) == 0
    said = capsys.readouterr().out
    assert "0 pairs" in said
    assert "train.py" not in said


COMMANDS = re.findall(r"^python scripts/rank\.py (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_ranks_and_pairs(command: str, capsys: Capture) -> None:
    write(Path("tiny"))
    Path("my_answers.jsonl").write_text(json.dumps({"prompt": "Why?", "responses": ["No.", "So it is."]}))
    Path("my_table.csv").write_text("task,note,first,second\nWhy?,seen,No.,So it is.\n")
    words = [*shlex.split(command), *(["ranker.path=tiny"] if "ranker=pairrm" in command else [])]
    assert main(["rank", *words]) == 0, capsys.readouterr().err
    assert len(made("pairs", "pairs.jsonl")) == 1


def test_the_readme_shows_more_than_one_command() -> None:
    assert len(COMMANDS) == 3
