"""AlpacaEval 2 against published values (CC BY-NC: in ../shared alone), and the faults that its length control could have."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from dpo_lab.components import RunError
from dpo_lab.evaluation.alpaca_eval import (
    alpaca_eval,
    annotations_in,
    difficulties_in,
    gamed_rows,
    outcome_of,
    raw_win_rate,
    write_outputs,
)
from dpo_lab.evaluation.length_control import Gamed, controlled_share, length_controlled, length_feature
from dpo_lab.evaluation.statistics import Observed, share_of
from dpo_lab.records import Candidates, Prompt


@dataclass(frozen=True)
class Golden:
    directory: Path
    expected: dict[str, Any]
    difficulty: np.ndarray
    baseline: np.ndarray
    gamed: Gamed

    def rows(self, model: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return outcomes of the annotated rows, their instructions, and the characters of every output."""
        found = json.loads((self.directory / "models" / f"{model}.json").read_text(encoding="utf-8"))
        kept = [(at, outcome_of(each)) for at, each in zip(found["index"], found["preference"], strict=True) if each is not None]
        return np.array([each for _, each in kept]), np.array([at for at, _ in kept], dtype=int), found["output_chars"]

    def controlled(self, model: str, inverse_penalty: float = float("inf"), gamed: bool = True, positional: bool = False) -> Any:
        outcomes, at, chars = self.rows(model)
        difference = (self.baseline - np.array([char or 0 for char in chars]))[at].astype(float)
        difficulty = self.difficulty[: len(at)] if positional else self.difficulty[at]
        rows = self.gamed if gamed else None
        return length_controlled(outcomes, difference, difficulty, gamed=rows, inverse_penalty=inverse_penalty)


@pytest.fixture(scope="module")
def golden() -> Golden:
    directory = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden" / "alpaca_lc"
    if not directory.is_dir():
        pytest.skip("no ../shared/data beside this checkout: AlpacaEval's numbers are not part of the repository")
    read = {name: json.loads((directory / f"{name}.json").read_text(encoding="utf-8")) for name in ("instructions", "expected")}
    about = read["instructions"]
    difficulty, baseline = np.array(about["difficulty"]), np.array(about["baseline_chars"])
    extra = about["regulariser"]
    length = [length_feature((baseline - np.array(extra[f"{name}_chars"])).astype(float)) for name in ("verbose", "concise")]
    gamed = Gamed(
        length=np.concatenate(length),
        difficulty=np.concatenate([difficulty] * 2),
        weight=extra["row_weight"],
        sum_length=extra["sum_preference_times_length_feature"],
        sum_difficulty=extra["sum_preference_times_difficulty"],
    )
    return Golden(directory, read["expected"]["models"], difficulty, baseline, gamed)


def annotated(golden: Golden, *, complete: bool = False) -> list[str]:
    return [
        name
        for name, each in golden.expected.items()
        if each.get("refit_joined") and (not complete or each["rows"] == "complete")
    ]


def test_raw_win_rates_of_28_models_equal_the_published_ones(golden: Golden) -> None:
    names = annotated(golden)
    assert len(names) == 28
    for name in names:
        outcomes, _, chars = golden.rows(name)
        found = raw_win_rate(outcomes.tolist(), [char for char in chars if char is not None])
        published = golden.expected[name]["published"]
        for figure in ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "n_total"):
            assert found[figure] == pytest.approx(published[figure], abs=1e-6), (name, figure)


def test_raw_win_rates_under_other_annotators_equal_alpaca_evals_own(shared_data: Path) -> None:
    entries = json.loads((shared_data / "golden" / "alpaca_eval_winrates.json").read_text(encoding="utf-8"))["entries"]
    for entry in entries:
        outcomes = [outcome_of(each) for each in entry["preferences"] if each is not None]
        found = raw_win_rate(outcomes, [each for each in entry["length_model"] if each is not None])
        for figure, value in entry["computed"].items():
            assert found[figure] == pytest.approx(value, abs=1e-6), (entry["model"], figure)
        assert found["avg_length"] == entry["published_leaderboard_row"]["avg_length"], entry["model"]


def test_refitted_length_controlled_win_rates_are_the_exact_optimum_and_near_the_published_ones(golden: Golden) -> None:
    for name in annotated(golden):
        each = golden.expected[name]
        free, penalised = golden.controlled(name), golden.controlled(name, each["inferred_C"])
        for found, kind in ((free, "unpenalised"), (penalised, "l1")):
            expected = each["refit_joined"][kind]
            assert 100 * found.win_rate == pytest.approx(expected["length_controlled_winrate"], abs=1e-6), (name, kind)
            assert 100 * found.standard_error == pytest.approx(expected["lc_standard_error"], abs=1e-6), (name, kind)
        if each["rows"] == "complete":
            published = each["published"]["length_controlled_winrate"]
            assert abs(100 * free.win_rate - published) <= 0.15, name
            assert abs(100 * penalised.win_rate - published) <= 0.02, name


def test_without_the_baselines_variants_the_length_controlled_win_rate_is_another_one(golden: Golden) -> None:
    names = annotated(golden, complete=True)
    off = [
        abs(100 * golden.controlled(name, gamed=False).win_rate - golden.expected[name]["published"]["length_controlled_winrate"])
        for name in names
    ]
    assert statistics.median(off) > 0.5


def test_difficulties_by_position_give_a_model_with_gaps_the_published_fault(golden: Golden) -> None:
    gaps = [name for name in annotated(golden) if golden.expected[name]["rows"] != "complete"]
    assert len(gaps) == 3
    for name in gaps:
        each = golden.expected[name]
        published = each["published"]["length_controlled_winrate"]
        positional = golden.controlled(name, each["inferred_C"], positional=True)
        assert abs(100 * positional.win_rate - published) <= 0.02, name
        assert abs(100 * golden.controlled(name, each["inferred_C"]).win_rate - published) > 0.4, name


def test_without_penalty_the_fit_equals_that_of_statsmodels() -> None:
    random = np.random.default_rng(0)
    difference, difficulty = random.normal(size=(2, 300)) * [[400.0], [1.0]]
    outcomes = random.random(300)
    rows = np.stack([length_feature(difference), difficulty, np.ones(300)], axis=1)
    theirs = sm.GLM(outcomes, rows, family=sm.families.Binomial()).fit()
    found = length_controlled(outcomes, difference, difficulty)
    assert list(found.weights.values()) == pytest.approx(theirs.params.tolist(), abs=1e-8)


def test_a_judge_that_prefers_length_alone_gives_one_half_at_equal_length() -> None:
    random = np.random.default_rng(0)
    difference = random.normal(-300, 200, 4000)  # the model writes more
    outcomes = (random.random(4000) < 1 / (1 + np.exp(2 * length_feature(difference)))).astype(float)
    assert outcomes.mean() > 0.75
    assert length_controlled(outcomes, difference).win_rate == pytest.approx(0.5, abs=0.06)


def test_a_penalty_that_is_strong_enough_leaves_every_weight_at_0() -> None:
    outcomes, difference = np.array([1.0, 0.0, 1.0, 1.0]), np.array([10.0, -5.0, 3.0, 8.0])
    assert length_controlled(outcomes, difference, inverse_penalty=0.1).weights == {"length": 0.0, "bias": 0.0}


def annotations(path: Path, preferences: list[float | None], write: Callable[[int], str] = lambda n: "yes" * (n + 1)) -> Path:
    rows = [
        {"instruction": f"do {n}", "output_1": "no " * (9 - n), "output_2": write(n), "preference": each}
        for n, each in enumerate(preferences)
    ]
    path.write_text(json.dumps(rows))
    return path


def test_annotations_are_read_from_a_file_and_difficulties_joined_by_instruction(tmp_path: Path) -> None:
    read = annotations_in(annotations(tmp_path / "a.json", [1.9, None, 1.2, 1.5, 1.6]))
    assert [each.instruction for each in read] == ["do 0", "do 2", "do 3", "do 4"]  # a row without preference counts nowhere
    hard = {f"do {n}": value for n, value in enumerate([0.5, 9.0, -1.0, 0.25, 0.0])}
    (tmp_path / "d.json").write_text(json.dumps([{"instruction": key, "difficulty": hard[key]} for key in reversed(hard)]))
    found = alpaca_eval(read, difficulties_in(tmp_path / "d.json"))
    rows = length_controlled(
        np.array([0.9, 0.2, 0.5, 0.6]), np.array([27.0 - 3, 21 - 9, 18 - 12, 15 - 15]), np.array([0.5, -1.0, 0.25, 0.0])
    )
    assert found["length_controlled_winrate"] == pytest.approx(100 * rows.win_rate, abs=1e-9)
    assert (found["win_rate"], found["n_total"], found["avg_length"]) == (pytest.approx(55.0), 4, (3 + 9 + 12 + 15) // 4)
    with pytest.raises(RunError, match="1 instruction of 4 without difficulty, the first 'do 3'"):
        alpaca_eval(read, {key: value for key, value in hard.items() if key != "do 3"})


def test_the_sums_over_the_baselines_variants_are_those_of_their_annotations(tmp_path: Path) -> None:
    read = annotations_in(annotations(tmp_path / "v.json", [1.5, 1.25, 2.0]))
    gamed = gamed_rows([read, read], None)
    assert (gamed.weight, len(gamed.length)) == (0.1, 6)
    assert gamed.sum_length == pytest.approx(2 * float(np.array([0.5, 0.25, 1.0]) @ gamed.length[:3]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ('{"a": 1}', "is not a list of rows"),
        ('[{"instruction": "a", "output_1": "", "preference": 1.0}]', "row 1: no 'output_2'"),
        ('[{"instruction": "a", "output_1": "", "output_2": "", "preference": 3}]', "row 1: preference 3 is not a number from 1"),
        ('[{"instruction": "a", "output_1": "", "output_2": "", "preference": null}]', "no row has a preference"),
        (
            '[{"instruction": "a", "output_1": "", "output_2": "", "preference": 1}' + ', {"instruction": "a", "output_1": "", '
            '"output_2": "", "preference": 1}]',
            "row 2: the instruction of row 1 again",
        ),
    ],
    ids=["no json", "no rows", "a missing column", "a wrong preference", "an empty judge", "twice"],
)
def test_a_file_that_holds_no_annotations_is_refused_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=said):
        annotations_in(tmp_path / "a.json")
    with pytest.raises(RunError, match="no such file"):
        annotations_in(tmp_path / "b.json")


def test_outputs_are_written_in_alpaca_evals_format(tmp_path: Path) -> None:
    answers = [Candidates(prompt=Prompt.from_text("Würde?"), responses=("ja", "nein"))]
    write_outputs(tmp_path / "o.json", answers, "mine")
    rows = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert rows == [{"instruction": "Würde?", "output": "ja", "generator": "mine"}]


def test_a_win_rate_that_length_explains_falls_to_one_half_with_an_interval_that_covers_it_95_times_in_100() -> None:
    random, covered = np.random.default_rng(0), []
    for _ in range(400):
        difference = np.repeat(random.normal(-200, 200, 100), 2) + random.normal(0, 100, 200)
        chance = 1 / (1 + np.exp(1.5 * length_feature(difference) - np.repeat(random.normal(0.0, 0.7, 100), 2)))
        wins = Observed((random.random(200) < chance).astype(float), np.repeat(np.arange(100), 2))
        found = controlled_share(wins, difference)
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= 0.5 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_length_control_says_where_it_has_no_interval() -> None:
    assert controlled_share(Observed([1.0] * 8, range(8)), np.arange(8.0)) == share_of(Observed([1.0] * 8, range(8)))
    longer = controlled_share(Observed([1.0] * 4 + [0.0] * 4, range(8)), np.array([-9.0] * 4 + [9.0] * 4))
    assert longer.why_none == "length alone tells wins from losses"
