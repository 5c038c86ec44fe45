"""The table of rounds: a row a figure, a column a round, on the screen at most 80 columns wide."""

from dataclasses import replace
from typing import Any

from dpo_lab.evaluation.answer_figures import TOKENS
from dpo_lab.figures import KL, WIN_PREVIOUS, WIN_RATE, Figure
from dpo_lab.report.figures import Cell, cards, rounds_table, verdict
from dpo_lab.report.rounds import rounds_lines
from dpo_lab.report.screen import figures_table

GOLD = Figure(name="gold", title="gold reward", by_round="judge: gold", before="measured", each_round=True)
FIGURES = [GOLD, WIN_RATE, WIN_PREVIOUS, KL]


def summary(rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"gold/before": 0.5, "kl": 4.9}
    for number in range(1, rounds + 1):
        for name in ("win_rate", "win_rate/previous"):
            found |= {f"{name}/round_{number}{end}": value for end, value in (("", 0.957), ("/low", 0.938), ("/high", 0.97))}
        kl = {f"kl/round_{number}{end}": 1.5 * number + off for end, off in (("", 0.0), ("/low", -0.25), ("/high", 0.25))}
        found |= {f"gold/round_{number}": 0.75, **kl}
    return found


def test_three_rounds_stand_side_by_side_with_the_intervals_of_shares() -> None:
    assert rounds_lines(FIGURES, summary(3)) == [
        "rounds                before  round 1         round 2         round 3",
        "  judge: gold         .50     .75             .75             .75",
        "  wins over before    -       .96 [.94, .97]  .96 [.94, .97]  .96 [.94, .97]",
        "  wins over previous  -       .96 [.94, .97]  .96 [.94, .97]  .96 [.94, .97]",
        "  KL to before, nats  0       1.5             3.0             4.5",
    ]


def test_rounds_that_do_not_fit_stand_below_with_the_figures_again() -> None:
    lines = rounds_lines([replace(GOLD, by_round="the judge, who has a long name"), *FIGURES[1:]], summary(7))
    assert max(map(len, lines)) <= 80
    heads = [line.split(maxsplit=1)[1] for line in lines if line.startswith("rounds")]
    assert " ".join(heads).split() == ["before", *(word for number in range(1, 8) for word in ("round", str(number)))]
    assert len(lines) == 5 * len(heads)


def test_a_run_of_one_round_and_one_without_figures_by_round() -> None:
    assert rounds_lines(FIGURES, summary(1))[0].split() == ["rounds", "before", "round", "1"]
    assert rounds_lines(FIGURES, {"kl": 5.0}) == []


def test_a_round_that_lacks_a_figure_has_a_dash() -> None:
    found = {name: value for name, value in summary(2).items() if name != "gold/round_1"}
    assert rounds_lines(FIGURES, found)[1].split() == ["judge:", "gold", ".50", "-", ".75"]


def test_the_page_joins_what_was_measured_and_what_was_trained() -> None:
    table = rounds_table(
        [{"number": 1, "pairs": 600, "made_by": {"generator": "a"}}, {"number": 2, "pairs": 597, "kl": 3.0}],
        summary(2),
        [KL, WIN_RATE],
    )
    assert table
    assert table.numbers == [1, 2]
    assert table.rows[0] == (KL.title, Cell("0"), [Cell("1.5", "1.25 to 1.75"), Cell("3", "2.75 to 3.25")])
    assert table.rows[1] == (WIN_RATE.title, Cell(""), [Cell("0.957", "0.938 to 0.97")] * 2)
    assert [(title, cells) for title, _, cells in table.rows if title == "pairs"] == [("pairs", [Cell("600"), Cell("597")])]
    assert "made_by" not in [title for title, _, _ in table.rows]


def test_prompts_that_all_tied_have_no_interval_and_the_word() -> None:
    found = {"win_rate/round_1": 0.5, "win_rate/previous/round_1": 0.5, "kl/round_1": 0.5, "win_rate": 0.5, "kl": 0.5}
    assert rounds_lines(FIGURES, found)[1:] == [
        "  wins over before    -       .50 all tied",
        "  wins over previous  -       .50 all tied",
        "  KL to before, nats  0       0.5",
    ]
    table = rounds_table([], found, FIGURES)
    assert table
    assert [values for _, _, values in table.rows] == [[Cell("0.5", "all tied")], [Cell("0.5", "all tied")], [Cell("0.5")]]
    assert figures_table("held-out prompts", FIGURES, found)[1].endswith("-           .50 all tied")
    assert verdict(found, figures=FIGURES).endswith(" in 50\N{NO-BREAK SPACE}% of the cases: all prompts tied.")
    assert [card.details[0] for card in cards(found, FIGURES)] == ["all prompts tied", KL.detail]


def test_a_share_of_one_half_with_an_interval_or_of_something_else_is_no_tie() -> None:
    assert not WIN_RATE.all_tied(0.5, 0.2)
    assert not replace(WIN_RATE, against="chance").all_tied(0.5, None)


def test_tokens_per_answer_have_one_decimal() -> None:
    found = {"answers/tokens/before": 30.0, "answers/tokens/round_1": 31.26, "answers/tokens/round_2": 8.0}
    assert rounds_lines([TOKENS], found)[1].split() == ["tokens", "per", "answer", "30.0", "31.3", "8.0"]
