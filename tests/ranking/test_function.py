"""A function of the user's own ranks: it is found, called with texts, and what it returns is checked."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from dpo_lab.cli.targets import foreign_code
from dpo_lab.components import ConfigError, RunError
from dpo_lab.ranking.base import rank_kept
from dpo_lab.ranking.function import FunctionRanker
from dpo_lab.records import Candidates, Prompt

Write = Callable[[str], FunctionRanker]


@pytest.fixture
def ranker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return what writes a module of a function `score` and returns its ranker."""
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("written_scores", None)

    def write(body: str) -> FunctionRanker:
        (tmp_path / "written_scores.py").write_text(
            f"import os\nfrom os import system\n\ndef score(prompt, answers):\n    {body}\n"
        )
        return FunctionRanker(path="written_scores:score")

    yield write
    sys.modules.pop("written_scores", None)


def answers(*texts: str, prompt: str = "Is it good?") -> Candidates:
    return Candidates(prompt=Prompt.from_text(prompt), responses=texts)


def test_scores_are_what_the_function_says_of_prompt_and_answers(ranker: Write) -> None:
    made = ranker("return [len(prompt) + len(answer) for answer in answers]")
    made.check()
    ((_, verdict),) = rank_kept(made, [answers("a", "bcd")])
    assert verdict.scores == (12.0, 14.0)


def test_a_conversation_is_one_text(ranker: Write) -> None:
    turns = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye")]
    asked = Prompt.of([{"role": role, "content": text} for role, text in turns])
    made = ranker("return [float(prompt == 'USER: Hi\\nASSISTANT: Yes?\\nUSER: Bye')]")
    assert made.rank([Candidates(prompt=asked, responses=("So long.",))])[0].scores == (1.0,)


def test_an_edited_function_is_another_ranker(ranker: Write) -> None:
    one = ranker("return [1.0 for _ in answers]").content()
    assert ranker("return [2.0 for _ in answers]").content() != one


def test_not_a_number_is_a_failed_verdict_and_no_error(ranker: Write) -> None:
    ((_, verdict),) = rank_kept(ranker("return [float('nan')] * 2"), [answers("a", "b")])
    assert all(map(math.isnan, verdict.scores))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "ranker=function returned 1 score for 2 answers to the prompt 'Is it good?'."),
        ("return ['high', 'low']", "ranker.path=written_scores:score returned 'high' for the prompt 'Is it good?', which is not"),
        ("return 3.0", "ranker.path=written_scores:score failed for the prompt 'Is it good?': TypeError: 'float' object is not"),
        ("raise KeyError('x')", "ranker.path=written_scores:score failed for the prompt 'Is it good?': KeyError: 'x'."),
    ],
    ids=["too-few", "text", "one-number", "raises"],
)
def test_what_is_no_score_per_answer_is_refused_in_one_line(ranker: Write, body: str, said: str) -> None:
    with pytest.raises(RunError) as refused:
        list(rank_kept(ranker(body), [answers("a", "b")], label="ranker=function"))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("score", "path=score is not MODULE:FUNCTION"),
        ("written_scores:os.system", "path=written_scores:os.system is not MODULE:FUNCTION"),
        ("written_scores.os:system", "the module written_scores.os cannot be imported (ModuleNotFoundError"),
        ("nowhere_at_all:score", "put PYTHONPATH=. in front of the command"),
        ("written_scores:mean", "written_scores holds no function of that name. Write one: def mean(prompt, answers)"),
        ("written_scores:os", "written_scores has a module of that name"),
    ],
)
def test_a_path_that_names_no_function_is_refused(ranker: Write, path: str, said: str) -> None:
    ranker("return answers")
    with pytest.raises(ConfigError, match="path=") as refused:
        FunctionRanker(path=path).check()
    assert said in str(refused.value)


def test_a_recorded_run_calls_no_function_without_trust_not_even_one_of_this_project() -> None:
    node = {"_target_": "dpo_lab.ranking.function.FunctionRanker", "path": "dpo_lab.hub.os:system"}
    assert list(foreign_code({"ranker": node}, [])) == [("ranker.path", "dpo_lab.hub.os.system")]
    assert list(foreign_code({"ranker": {**node, "path": "dpo_lab.records:write_jsonl"}}, [])) != []


def test_the_command_line_says_which_key_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model=tiny", "data=films", "ranker=function", "ranker.path=nowhere_at_all:score", f"paths.outputs={tmp_path}"]
    assert main(["train", *words]) == 2
    assert "ranker.path=nowhere_at_all:score: the module nowhere_at_all cannot be imported" in capsys.readouterr().err
    assert json.dumps(sorted(path.name for path in tmp_path.glob("train"))) == "[]"
