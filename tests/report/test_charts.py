"""Curves and distributions: rounds are marked, numbers on the axes are true, long runs are averaged, gaps stay gaps."""

import re

import matplotlib
import pytest

from dpo_lab.report.charts import Chart, curves, length_charts
from dpo_lab.report.svg import SERIES, line_chart


def chart_of(title: str, rows: list[dict[str, float | None]]) -> Chart:
    """Return the chart with a title, wherever it stands."""
    found = curves(rows)
    assert found
    return next(chart for chart in (*found.shown, *found.folded) if chart.title == title)


def labels(svg: str) -> list[str]:
    """Return the texts of a drawing."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_every_round_is_marked_where_it_begins() -> None:
    rows: list[dict[str, float | None]] = [{"step": step, "round": (step - 1) // 5 + 1, "loss": 0.5} for step in range(1, 16)]
    svg = chart_of("Loss", rows).svg
    assert [label for label in labels(svg) if label.startswith("round")] == ["round 1", "round 2", "round 3"]
    assert svg.count("stroke-dasharray") == 2
    lines = re.findall(r'<path d="([^"]*)"[^>]*stroke: var\(--series-1\); stroke-width: 1.4', svg)
    assert [len(re.findall("[ML]", line)) for line in lines] == [5, 5, 5], "no line goes from one round into the next"


def test_a_round_too_short_for_its_label_has_a_shorter_one_or_none() -> None:
    svg = line_chart(range(1, 101), [[0.5] * 100], [1, 50, 90, 99])
    assert [label for label in labels(svg) if label in ("round 1", "round 2", "3", "round 4", "4")] == ["round 1", "round 2", "3"]
    assert svg.count("stroke-dasharray") == 3


def test_a_run_of_one_round_has_no_marks() -> None:
    svg = chart_of("Loss", [{"step": 1, "round": 1, "loss": 0.5}, {"step": 2, "round": 1, "loss": 0.4}]).svg
    assert "round 1" not in labels(svg)
    assert "stroke-dasharray" not in svg


def test_an_axis_keeps_all_digits_of_its_numbers() -> None:
    svg = line_chart([1, 2], [[0.0, 1.0]], [1], share=True)
    assert {"0", "0.25", "0.5", "0.75", "1"} <= set(labels(svg))


def test_a_drawing_takes_its_colours_and_its_font_from_the_page() -> None:
    svg = chart_of("Rewards", [{"step": step, "rewards/chosen": step, "rewards/rejected": -step} for step in range(1, 30)]).svg
    assert {"var(--series-1)", "var(--series-2)", "var(--soft)", "var(--line)"} <= set(re.findall(r"var\([^)]*\)", svg))
    assert not re.search(r"#[0-9a-f]{6}\b(?!\")", svg.replace("url(#", ""))
    assert "font-family" not in svg


def test_a_style_of_the_user_changes_no_drawing() -> None:
    before = line_chart([1, 2], [[0.0, 1.0]], [1])
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linestyle": ":", "svg.fonttype": "path"}):
        assert line_chart([1, 2], [[0.0, 1.0]], [1]) == before


def test_colours_that_the_page_replaces_are_no_part_of_each_other() -> None:
    assert len(set(SERIES)) == 8
    assert all(len(colour) == 7 for colour in SERIES)


def test_a_long_run_is_averaged_and_the_last_group_may_be_smaller() -> None:
    rows: list[dict[str, float | None]] = [{"step": step, "round": 1, "loss": float(step)} for step in range(1, 804)]
    points = chart_of("Loss", rows).points
    assert points["steps"][:2] == [1, 4]
    assert points["values"][0][:2] == [2.0, 5.0]  # (1 + 2 + 3) / 3, (4 + 5 + 6) / 3
    assert points["values"][0][-1] == pytest.approx(802.0, abs=0.51)
    assert len(points["steps"]) == 268


def test_an_average_never_joins_two_rounds() -> None:
    rows: list[dict[str, float | None]] = [
        {"step": step, "round": 1 + (step > 601), "loss": float(step > 601)} for step in range(1, 1203)
    ]
    assert set(chart_of("Loss", rows).points["values"][0]) == {0.0, 1.0}


def test_a_value_that_is_absent_or_not_finite_is_a_gap() -> None:
    rows: list[dict[str, float | None]] = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}, {"step": 3, "lr": 0.1}]
    rows += [{"step": 4, "loss": float("nan")}, {"step": 5, "loss": 0.25}]
    chart = chart_of("Loss", rows)
    assert chart.points["steps"] == [1, 5]
    assert chart.series[0].last == "0.25"


def test_metrics_that_nobody_listed_are_folded_and_words_are_no_metric() -> None:
    found = curves([{"step": 1, "loss": 0.5, "mine/figure": 1.0, "note": "text", "skipped": True}])
    assert found
    assert [chart.title for chart in found.shown] == ["Loss"]
    assert [chart.title for chart in found.folded] == ["mine/figure"]


def test_a_metric_is_explained_with_its_unit_and_formula() -> None:
    chart = chart_of("Margin", [{"step": 1, "rewards/margins": 1.0}])
    assert chart.unit == "beta times nats"
    assert "by how much the chosen response is preferred: rewards/chosen - rewards/rejected" in chart.series[0].meaning


def test_no_rows_have_no_curves() -> None:
    assert curves([]) is None


def test_lengths_are_drawn_for_prompts_and_for_both_responses_together() -> None:
    prompts, responses = length_charts({"prompt": [3, 4, 5], "chosen": [1, 2, 9], "rejected": [7]})
    assert [line.last for line in prompts.series] == ["median 4, 3 to 5"]
    assert [line.last for line in responses.series] == ["median 2, 1 to 9", "median 7, 7 to 7"]


def test_lengths_that_were_not_recorded_are_not_drawn() -> None:
    assert [chart.title for chart in length_charts({"chosen": [4]})] == ["Responses"]
