"""What a measure promises: its figures are named, shown as they say, and nothing else is taken for one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from dpo_lab.components import RunError
from dpo_lab.evaluation.agreement import agreement
from dpo_lab.evaluation.base import Setting
from dpo_lab.evaluation.intervals import observed_in, records_of
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.evaluation.win_rate import wins_side_by_side
from dpo_lab.figures import ACCURACY, BETTER, KL, LOSS, Figure, summary_keys, summary_of
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.pipeline.evaluation import refuse_unnamed
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.records import Candidates, Prompt
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.none import NoReference
from dpo_lab.report.figures import verdict
from dpo_lab.report.screen import figures_table
from dpo_lab.scoring.logps import pair_logps
from dpo_lab.tokens.labels import PairLabels

GOLD = Figure(name="gold", title="gold reward", before="measured", main=True, each_round=True)


def test_the_summary_has_the_keys_that_are_promised_and_the_main_one_is_first() -> None:
    figures = [KL, GOLD, ACCURACY]
    after = {"gold": 0.9, "kl": 5.0, "eval/accuracy": 0.75, "eval/accuracy/low": 0.5, "eval/accuracy/high": 0.9}
    after |= {"kl/low": 4.0, "kl/high": 6.0}
    summary = summary_of(figures, after, {"gold": 0.5})
    promised = summary_keys(figures, rounds=2)
    assert promised[:2] == ["gold/after", "gold/before"]
    of_rounds = {f"{name}/round_{number}" for name in ("gold", "kl") for number in (1, 2)}
    of_rounds |= {f"kl/round_{number}/{end}" for number in (1, 2) for end in ("low", "high")}
    assert set(promised) == {*summary, *of_rounds}
    assert (summary["gold/after"], summary["gold/before"], summary["eval/accuracy"]) == (0.9, 0.5, 0.75)


def test_what_a_measure_leaves_out_is_neither_in_the_summary_nor_on_the_screen() -> None:
    assert summary_of([GOLD, LOSS, KL], {"kl": 1.0}) == {"kl": 1.0}
    assert figures_table("mine", [GOLD, LOSS, KL], {"kl": 1.0})[1:] == ["  KL to before, nats           0           1.0"]


def test_columns_are_as_wide_as_the_longest_row() -> None:
    long = Figure(name="long", title="a name that is longer than the column of names usually is", headline=True)
    lines = figures_table("mine", [long, KL], {"long": 1.0, "kl": 1.0})
    assert len({line.index(cell) for line, cell in zip(lines, ("before", "-  ", "0  "), strict=True)}) == 1


def test_a_row_shows_before_and_after_with_the_interval_and_the_digits_of_its_figure() -> None:
    share = Figure(name="share", title="a long title", row="share", interval=True, before="measured", digits=3)
    summary = summary_of([share], {"share": 0.5, "share/low": 0.25, "share/high": 0.75}, {"share": 0.125})
    assert figures_table("mine", [share], summary)[1].split("  ")[1] == "share"
    assert figures_table("mine", [share], summary)[1].split()[1:] == [".125", ".500", "[.250,", ".750]"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"gold": 1.0, "silver": 2.0}, "returned 'silver', which Mine.figures did not name"),
        ({"gold/before": 1.0}, "returned 'gold/before', which Mine.figures did not name"),  # the run fills it in
        ({"gold": torch.tensor(1.0)}, "returned gold as Tensor; use float(value)"),
    ],
    ids=["another name", "a key of the summary", "a tensor"],
)
def test_a_figure_that_was_not_named_or_is_no_number_is_refused(found: Mapping[str, Any], reason: str) -> None:
    refuse_unnamed({"gold": 1.0, "kl": 2}, [GOLD, KL], "Mine")
    with pytest.raises(RunError, match=f".*Mine.measure {reason.replace('(', '.').replace(')', '.')}.*policy is kept"):
        refuse_unnamed(found, [GOLD, KL], "Mine")


def test_figures_of_pairs_depend_on_what_is_known_of_the_reference() -> None:
    def named(loss: Any, reference: Any) -> dict[str, Figure]:
        figures = PreferenceEvaluation().figures(Setting(loss=loss, reference=reference))
        return {figure.name: figure for figure in figures}

    with_one, without = named(DPOLoss(), CachedReference()), named(DPOLoss(), NoReference())
    assert (with_one["eval/loss"].before, with_one["eval/margin"].start) == ("computed", 0.0)
    assert (without["eval/loss"].before, without["eval/margin"].start) == (None, None)
    assert named(WPOLoss(loss=DPOLoss()), CachedReference())["eval/loss"].before is None  # its own softmax is not kept
    assert "eval/losses/dpo" in with_one
    assert "eval/losses/dpo" not in without


def test_a_run_whose_evaluation_tests_no_figure_is_not_called_better() -> None:
    bits = Figure(name="bits", title="bits per token", before="measured")
    said = verdict({"bits/before": 5.0, "bits/after": 4.0}, [], [bits])
    assert said == "Bits per token: 4, before 5. No figure is tested: judge for yourself what that means."


def test_a_figure_survives_its_record_in_run_json() -> None:
    assert [Figure(**each.record()) for each in (GOLD, KL, ACCURACY)] == [GOLD, KL, ACCURACY]
    assert GOLD.record() == {"name": "gold", "title": "gold reward", "before": "measured", "main": True, "each_round": True}


def test_figures_of_training_that_get_better_in_one_direction() -> None:
    assert BETTER == {
        "loss": "min",
        "rewards/margins": "max",
        "rewards/accuracies": "max",
        "rewards/accuracies_ties_half": "max",
    }


def test_what_was_observed_survives_its_file() -> None:
    observed = {
        "win_rate": Observed([1.0, 0.5, 0.0], ["a", "a", "b"]),
        "kl": Observed([2.0, 3.0, 4.0], ["a", "a", "b"]),
        "distinct": Observed([3.0, 2.0], ["a", "b"], [4.0, 2.0]),
    }
    records = list(records_of(observed))
    assert records[0] == {"prompt_id": "a", "win_rate": 1.0, "kl": 2.0}
    assert len(records) == 5
    assert observed_in(records) == observed


def test_pairs_of_one_prompt_widen_the_interval_of_the_accuracy() -> None:
    chosen = [-1.0 if number % 3 else -3.0 for number in range(30)]
    unknown = PairLabels(*torch.full((3, 30), float("nan")))
    logps = pair_logps(chosen, [-2.0] * 30, labels=unknown), pair_logps([-2.0] * 30, [-2.0] * 30)
    apart = agreement(*logps, DPOLoss(), has_reference=True).figures
    together = agreement(*logps, DPOLoss(), has_reference=True, prompts=[str(number % 3) for number in range(30)]).figures
    assert apart["eval/accuracy"] == together["eval/accuracy"] == pytest.approx(2 / 3)
    assert together["eval/accuracy/high"] - together["eval/accuracy/low"] > 2 * (
        apart["eval/accuracy/high"] - apart["eval/accuracy/low"]
    )


class FirstPlace(Ranker):
    """Compares, and prefers whatever is shown first, but for a text that begins with `best`."""

    label: ClassVar[str] = "first place"
    scores_alone: ClassVar[bool] = False

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        return [
            Verdict(scores=tuple(10.0 * text.startswith("best") - place for place, text in enumerate(candidate.responses)))
            for candidate in candidates
        ]


@pytest.mark.parametrize("pairwise", [False, True])
def test_a_judge_that_compares_sees_both_orders_so_that_its_bias_for_a_place_wins_nothing(
    pairwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pairwise:  # it prefers the first place in each order, and says so in its matrix
        said = lambda _, sets: [Verdict((0.0, 0.0), pairwise=((0.0, 1.0), (1.0, 0.0))) for _ in sets]  # noqa: E731
        monkeypatch.setattr(FirstPlace, "rank", said)
    ours = [Candidates(prompt=Prompt.from_text(f"{n}?"), responses=("a", "best"), scores=(0.0, 0.0)) for n in range(3)]
    theirs = [replace(answered, responses=("b", "c")) for answered in ours]
    wins = wins_side_by_side(FirstPlace(), ours, theirs, torch.device("cpu"), name="judge", directory=None)
    assert wins
    assert list(wins.observed.values) == ([0.5] * 6 if pairwise else [0.5, 1.0] * 3)
    assert list(wins.observed.prompts) == [answered.prompt.id for answered in ours for _ in range(2)]
    turned = wins_side_by_side(FirstPlace(), theirs, ours, torch.device("cpu"), name="judge", directory=None)
    assert turned
    assert [1 - value for value in turned.observed.values] == list(wins.observed.values)
    assert wins.shorter_by == (0, -3) * 3
