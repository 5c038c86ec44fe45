"""What a judge says of the answers, beside what the pairs and the ranker say."""

from dpo_lab.amounts import short
from dpo_lab.evaluation.health.base import Finding, History

ACCURATE = 0.75
"""Share of pairs that are ranked rightly from which the pairs say that training works."""
LESS_OFTEN, LESS_VARIED = 0.1, 0.3
"""By how much fewer answers end by themselves or sentences are well-formed; share by which distinct word pairs fall."""
PARTED = 0.15
"""Of the win rates that ranker and judge see."""


def answers_degrade(history: History) -> Finding | None:
    """Return a finding if pairs are ranked rightly while answers to held-out prompts lose, break off or break down."""
    held_out = history.newest("eval/accuracy")
    accuracy = held_out if held_out is not None else history.recent("rewards/accuracies")
    if accuracy is None or accuracy < ACCURATE or not (signs := signs_of_decay(history)):
        return None
    of = "held-out pairs" if held_out is not None else "training pairs"
    return Finding(
        name="answers_degrade",
        round=history.round,
        said=f"{short(accuracy)} of the {of} are ranked rightly, and yet {', and '.join(signs)}",
        remedy="a larger loss.beta or a lower optim.lr; judge by win_rate and by reading answers, not by the accuracy",
    )


def signs_of_decay(history: History) -> list[str]:
    """Return what is worse about the answers than it was before training."""
    signs = []
    ends = [history.newest(f"win_rate{end}") for end in ("", "/high")]
    if ends[0] is not None and (ends[1] if ends[1] is not None else ends[0]) < 0.5:
        signs.append(f"answers win only {short(ends[0])} of the comparisons with those before training")
    pairs = {name: (history.before.get(name), history.newest(name)) for name in ("answers/ended", "answers/distinct_2")}
    was, now = pairs["answers/ended"]
    if was is not None and now is not None and was - now > LESS_OFTEN:
        signs.append(f"{short(now)} of the answers end by themselves, {short(was)} before")
    was, now = pairs["answers/distinct_2"]
    if was and now is not None and now < (1 - LESS_VARIED) * was:
        signs.append(f"{short(now)} of the word pairs of an answer are distinct, {short(was)} before")
    formed, broken = history.before.get("well_formed"), history.newest("well_formed")
    if formed is not None and broken is not None and formed - broken > LESS_OFTEN:
        signs.append(f"{short(broken)} of the sentences are well-formed, {short(formed)} before")
    return signs


def ranker_and_judge_part(history: History) -> Finding | None:
    """Return a finding if the ranker sees clearly more wins than the judge.

    The policy has then learned what the ranker is wrong about (Gao et al. 2023, arXiv:2210.10760). Where both have intervals,
    they must not overlap.
    """
    believed, judged = history.newest("win_rate/ranker"), history.newest("win_rate")
    if believed is None or judged is None or believed - judged < PARTED:
        return None
    low, high = history.newest("win_rate/ranker/low"), history.newest("win_rate/high")
    if low is not None and high is not None and low <= high:
        return None
    before = [row["win_rate"] for row in history.earlier if "win_rate" in row]
    fallen = f"; the judge saw {short(max(before))} in an earlier round" if before and max(before) > judged else ""
    return Finding(
        name="ranker_and_judge_part",
        round=history.round,
        said=f"the ranker sees {short(believed)} wins over the answers before, the judge {short(judged)}{fallen}",
        remedy="fewer rounds (iteration.rounds), a larger loss.beta, another ranker, or ranker=ensemble",
    )
