"""What a comparison says in sentences: which configuration is best, from which it cannot be told apart, and what would tell."""

from collections.abc import Sequence

from dpo_lab.amounts import count_of
from dpo_lab.comparison.best import Against, Configuration, Standing
from dpo_lab.comparison.runs import Run
from dpo_lab.evaluation.statistics.comparison import MANY, rounded

LISTED = 6  # configurations that a sentence names


def state_line(runs: Sequence[Run], noun: str = "job") -> str:
    """Return how many runs ended how.

    >>> state_line([Run(name="a"), Run(name="b", state="failed"), Run(name="c", state="killed")])
    '3 jobs, 1 finished, 1 failed, 1 killed'
    """
    states = dict.fromkeys(("finished", "failed", *(run.state for run in runs)))
    counts = {state: sum(run.state == state for run in runs) for state in states}
    return ", ".join([count_of(len(runs), noun), *(f"{number} {state}" for state, number in counts.items())])


def verdict_lines(found: Standing) -> list[str]:
    """Return whether the best configuration is better than the others by more than chance, in a few sentences."""
    metric, first = found.metric, found.configurations[0] if found.configurations else None
    if first is None:
        return [f"No finished run has {metric.key}."]
    if metric.better is None:
        return [f"{metric.key} gets better in no direction, so no run is best; they are sorted from high to low."]
    if len(found.configurations) == 1:
        return [_of_one_configuration(first, found)]
    open_ones = [each for each in found.against if not each.told_apart]
    others, apart = len(found.against), len(found.against) - len(open_ones)
    shown = f"{metric.text(first.mean)}{_over_seeds(first)}"
    highest = "lowest" if metric.better == "min" else "highest"
    if not open_ones:
        than = "the other one" if others == 1 else f"all {others} others"
        lines = [f"{first.name} is best by {metric.key} ({shown}), by more than chance: told apart from {than}."]
    else:
        of_them = f"{len(open_ones)} of {others} others" if others > 1 else "the other one"
        equal = [one.other.name for one in open_ones if one.other.mean == first.mean]
        level = f", level with {', '.join(equal[:LISTED])}" if equal else ""
        lines = [
            f"No winner by {metric.key}: {first.name} is {highest} ({shown}){level}, and cannot be told apart from {of_them}."
        ]
        if len(equal) == others:
            lines = [f"No winner by {metric.key}: {'both' if others == 1 else f'all {others + 1}'} tie ({shown})."]
        lines += [f"{first.name} is better than {apart} of them by more than chance."] if apart else []
    lines += [f"not told apart from {one.other.name}: {reason(one, found)}" for one in open_ones[:LISTED]]
    lines += [f"nor from {len(open_ones) - LISTED} more."] if len(open_ones) > LISTED else []
    if not found.several_seeds:
        lines.append("Each configuration has one seed: how much another seed would change is not known.")
    return lines


def _of_one_configuration(only: Configuration, found: Standing) -> str:
    if len(only.runs) == 1:
        return f"One finished run has {found.metric.key}: {found.metric.text(only.mean)}. There is nothing to compare it with."
    return (
        f"No winner: the {len(only.runs)} runs are one configuration and differ in the seed alone "
        f"({found.metric.key} {found.metric.text(only.mean)}{_over_seeds(only)})."
    )


def _over_seeds(configuration: Configuration) -> str:
    if configuration.spread is None:
        return ""
    return f", mean of {len(configuration.runs)} seeds with standard deviation {configuration.spread:.2g}"


def reason(each: Against, found: Standing) -> str:
    """Return the difference with its interval, and what would tell the two apart or why nothing is known."""
    if each.difference is None:
        return f"{each.why_none}."
    estimate = each.difference.estimate
    why = f"; {estimate.why_none}" if estimate.why_none else ""
    shown = f"difference {estimate.text(found.metric.digits)}{why}"
    more = each.more_prompts
    prompts = f"about {rounded(more)} more held-out prompts" if more is not None and more < MANY else ""
    if more is not None and not prompts:
        return f"{shown}; it is next to nothing."
    if each.lacks_seeds:
        seeds = "more seeds, which differ as much as that"
        return f"{shown}; it takes {f'{prompts} and {seeds}' if prompts else seeds}."
    return f"{shown}; {prompts} would tell." if prompts else f"{shown}."
