"""The figures of a run: what each is called and means, and how it is shown. The screen, the report and W&B read this table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

Better = Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of summary.json or metrics.jsonl."""

    name: str
    """In files, such as `eval/accuracy`."""
    title: str
    """In words, for the report."""
    unit: str = ""
    formula: str = ""
    """With y_w the chosen and y_l the rejected response, pi the policy, ref the reference."""
    better: Better | None = None
    """Whether it gets better by growing or by falling; None: neither."""
    interval: bool = False
    """Whether it has a 95 % interval: NAME/low and NAME/high."""
    before: Literal["measured", "computed"] | None = None
    """measured: the model before training is measured too, and the summary has NAME/before and NAME/after. computed: the
    measure itself returns NAME/before beside NAME."""
    start: float | None = None
    """The value of a policy that training has not changed yet, where it needs no measuring: 0 of a divergence."""
    headline: bool = True
    """Whether the screen and the first part of the report show it; every figure is in summary.json."""
    main: bool = False
    """Whether runs are compared by it unless `optimized_metric` names another one."""
    each_round: bool = False
    """Whether the summary has its value after every round: NAME/round_N, with an interval NAME/round_N/low and NAME/round_N/high;
    the table of rounds on the screen and in the report shows them."""
    by_round: str = ""
    """In a few words, for a row of that table on the screen; empty: as in `row`."""
    row: str = ""
    """In words, for a row of the end screen; empty: the title."""
    digits: int = 2
    """Behind the point, on the end screen."""
    detail: str = ""
    """What the report says below the value."""
    fact: str = ""
    """For a share with an interval that decides whether the run worked: a sentence with {} for the value."""
    against: str = ""
    """What a share of one half is equal to: `chance`, or the model `before` training or of the `previous` round."""

    @property
    def measured(self) -> list[str]:
        """The names that a measure may return for it.

        >>> Figure(name="win_rate", title="win rate", interval=True).measured
        ['win_rate', 'win_rate/low', 'win_rate/high']
        """
        interval = [f"{self.name}/low", f"{self.name}/high"] if self.interval else []
        return [self.name, *interval, *([f"{self.name}/before"] if self.before == "computed" else [])]

    def all_tied(self, value: float, low: float | None) -> bool:
        """Return whether all prompts tied, which an interval says nothing about: a win rate of one half that has none.

        >>> WIN_RATE.all_tied(0.5, None), WIN_RATE.all_tied(0.5, 0.3)
        (True, False)
        """
        return self.against in ("before", "previous") and value == 0.5 and low is None

    @property
    def keys(self) -> list[str]:
        """The keys of summary.json, without those of rounds.

        >>> Figure(name="gold", title="gold reward", before="measured").keys
        ['gold/after', 'gold/before']
        """
        if self.before != "measured":
            return self.measured
        return [f"{self.name}/after", f"{self.name}/before", *self.measured[1:]]

    def record(self) -> dict[str, Any]:
        """Return what is said of it as plain data, which `Figure(**record)` reads; what is as usual is left out."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}


def of_training(name: str, title: str, formula: str, unit: str, better: Better | None = None) -> Figure:
    """Return a figure of a logged step."""
    return Figure(name=name, title=title, formula=formula, unit=unit, better=better)


TRAINING: tuple[Figure, ...] = (
    of_training("loss", "the loss", "loss(pi, ref)", "of the loss", "min"),
    of_training("rewards/chosen", "implicit reward of the chosen response", "beta (log pi(y_w) - log ref(y_w))", "beta x nats"),
    of_training(
        "rewards/rejected", "implicit reward of the rejected response", "beta (log pi(y_l) - log ref(y_l))", "beta x nats"
    ),
    of_training(
        "rewards/margins",
        "by how much the chosen response is preferred",
        "rewards/chosen - rewards/rejected",
        "beta x nats",
        "max",
    ),
    of_training("rewards/accuracies", "share of pairs ranked rightly; a tie counts as wrong", "1[margin > 0]", "share", "max"),
    of_training(
        "rewards/accuracies_ties_half",
        "share of pairs ranked rightly; a tie counts half, as do log-ratios that float32 cannot tell apart",
        "1[margin > 0] + 1[margin = 0] / 2",
        "share",
        "max",
    ),
    of_training("logps/chosen", "log-probability of the chosen response", "log pi(y_w)", "nats"),
    of_training("logps/rejected", "log-probability of the rejected response", "log pi(y_l)", "nats"),
    of_training("logps/chosen_per_token", "the same per token of each response", "log pi(y_w) / tokens(y_w)", "nats per token"),
    of_training("logps/rejected_per_token", "the same per token of each response", "log pi(y_l) / tokens(y_l)", "nats per token"),
    of_training(
        "kl/implicit",
        "drift on the data: mean log-ratio of both responses; negative where the policy leaves the data",
        "(log pi(y_w) - log ref(y_w) + log pi(y_l) - log ref(y_l)) / 2",
        "nats",
    ),
    of_training("lengths/chosen", "tokens of the chosen response, end token included", "tokens(y_w)", "tokens"),
    of_training("lengths/rejected", "tokens of the rejected response, end token included", "tokens(y_l)", "tokens"),
    of_training("lr", "learning rate of the step (no mean)", "lr x factor(step)", "-"),
    of_training("grad_norm", "norm of the step's gradient before clipping (no mean)", "norm(g)", "of the loss per weight"),
    of_training("fp16/loss_scale", "what the loss is multiplied by on the way back, with precision=fp16 (no mean)", "2^k", "-"),
    of_training(
        "fp16/skipped_steps", "steps so far that changed nothing, as their gradient overflowed (no mean)", "count", "steps"
    ),
    of_training("time/pairs_per_second", "pairs trained on per second since the row before", "pairs / seconds", "1/s"),
    of_training("time/tokens_per_second", "tokens through the model's body, padding included", "tokens / seconds", "1/s"),
    of_training(
        "time/tflops_per_second",
        "operations in the policy's weight matrices by all processes, without embeddings, head, attention and the reference",
        "(6 x trained + 4 x frozen weights) x tokens / seconds / 10^12",
        "TFLOP/s",
    ),
    of_training(
        "memory/peak_mib",
        "the most memory of the first process so far: resident, or on a GPU allocated by torch (no mean)",
        "bytes / 2^20",
        "MiB",
    ),
)
"""The figures of metrics.jsonl; each is a mean over pairs unless its title says otherwise."""
OF_THE_MACHINE = ("time/", "memory/")
"""How the names of figures begin that differ when a step is repeated."""
OF_THE_STEP = ("lr", "grad_norm", "fp16/")
"""How the names of figures begin that pairs alone do not have."""
OF_PAIRS = tuple(figure for figure in TRAINING if not figure.name.startswith((*OF_THE_STEP, *OF_THE_MACHINE)))
"""Those that a set of pairs has, trained on or held out."""
BETTER: dict[str, Better] = {figure.name: figure.better for figure in TRAINING if figure.better}
"""Figures of training that get better in one direction only."""

LOSS = Figure(
    name="eval/loss", title="loss, held-out pairs", row="loss", unit="of the loss", better="min", interval=True, before="computed"
)
ACCURACY = Figure(
    name="eval/accuracy",
    title="accuracy, held-out pairs",
    row="accuracy",
    unit="share",
    better="max",
    interval=True,
    main=True,
    fact="{} of the held-out pairs are ranked rightly",
    against="chance",
)
MARGIN = Figure(
    name="eval/margin",
    title="margin of rewards, held-out pairs",
    row="margin of rewards",
    unit="beta x nats",
    better="max",
    interval=True,
    start=0.0,
)
WIN_RATE = Figure(
    name="win_rate",
    title="win rate against before",
    unit="share",
    better="max",
    interval=True,
    each_round=True,
    by_round="wins over before",
    fact="answers to held-out prompts win against the old ones in {} of the cases",
    against="before",
)
WIN_PREVIOUS = Figure(
    name="win_rate/previous",
    title="win rate against the round before",
    by_round="wins over previous",
    unit="share",
    better="max",
    interval=True,
    headline=False,
    each_round=True,
    against="previous",
)
"""Of the first round, it is the win rate against the model before training."""
KL = Figure(
    name="kl",
    title="KL to before, nats",
    unit="nats",
    interval=True,
    start=0.0,
    each_round=True,
    digits=1,
    detail="for scale: the best of 5 answers is at most 0.8 nats away, of 100 answers 3.6, of 1,000 answers 5.9",
)
"""The scale is log n - (n - 1) / n, which bounds the KL of the best of n answers (Beirami et al. 2024, arXiv:2401.01879)."""
EVALUATION = (LOSS, ACCURACY, MARGIN, WIN_RATE, KL)
"""Figures that the project's own evaluations share between runs; a measure names them, and any others, before a run."""


def better_of(figures: Iterable[Figure]) -> dict[str, Better]:
    """Return the headline figures that get better in one direction only, with the direction."""
    return {figure.name: figure.better for figure in figures if figure.headline and figure.better}


def table() -> str:
    """Return the figures of training as a Markdown table, which docs/method.md holds."""
    rows = [f"| `{figure.name}` | {figure.title} | {figure.formula} | {figure.unit} |" for figure in TRAINING]
    return "\n".join(["| name | meaning | formula | unit |", "|---|---|---|---|", *rows])


def summary_keys(figures: Iterable[Figure], rounds: int) -> list[str]:
    """Return the keys that a run's summary will have, the main figure's first."""
    ordered = sorted(figures, key=lambda figure: not figure.main)
    of_rounds = [key for each in ordered if each.each_round for key in round_keys(each, rounds)]
    return [*(key for figure in ordered for key in figure.keys), *of_rounds]


def round_keys(figure: Figure, rounds: int) -> list[str]:
    """Return the keys of summary.json for the value of a figure in each round, and for its intervals.

    >>> round_keys(Figure(name="gold", title="gold reward"), 2)
    ['gold/round_1', 'gold/round_2']
    """
    ends = ("", "/low", "/high") if figure.interval else ("",)
    return [f"{figure.name}/round_{number}{end}" for number in range(1, rounds + 1) for end in ends]


def of_round(figures: Iterable[Figure], found: Mapping[str, float], number: int) -> dict[str, float]:
    """Return what a summary holds of the figures of one round, from 1.

    >>> of_round([KL], {"kl": 5.5, "loss": 0.5}, 2)
    {'kl/round_2': 5.5}
    """
    keys = [(figure.name, end) for figure in figures if figure.each_round for end in ("", "/low", "/high")]
    return {f"{name}/round_{number}{end}": found[name + end] for name, end in keys if name + end in found}


def has_rounds(summary: Mapping[str, Any], name: str) -> list[int]:
    """Return the rounds of which a summary has a figure.

    >>> has_rounds({"kl/round_1": 1.0, "kl/round_2": 2.0, "kl": 2.0, "kl/round_1/low": 0.5}, "kl")
    [1, 2]
    """
    key = re.compile(rf"{re.escape(name)}/round_(\d+)")
    return sorted(int(match[1]) for each in summary if (match := key.fullmatch(each)))


def summary_of(
    figures: Sequence[Figure], after: Mapping[str, float], before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return what a summary holds of the figures of the trained policy, and of the model before training.

    >>> gold = Figure(name="gold", title="gold reward", before="measured")
    >>> summary_of([gold, KL], {"gold": 0.75, "kl": 5.5}, {"gold": 0.5})
    {'gold/before': 0.5, 'gold/after': 0.75, 'kl': 5.5}
    """
    summary: dict[str, float] = {}
    for figure in figures:
        values = {key: after[key] for key in figure.measured if key in after}
        if figure.before == "measured":
            sides = (("before", (before or {}).get(figure.name)), ("after", values.pop(figure.name, None)))
            values = {f"{figure.name}/{side}": value for side, value in sides if value is not None} | values
        summary |= values
    return summary
