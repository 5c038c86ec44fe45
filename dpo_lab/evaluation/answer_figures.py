"""What can be said of answers without a judge: their length, whether they end, and how varied their words are."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dpo_lab.evaluation.statistics import Observed
from dpo_lab.figures import Figure
from dpo_lab.records import Candidates


def _of_answers(name: str, title: str, unit: str = "") -> Figure:
    return Figure(name=f"answers/{name}", title=title, unit=unit, before="measured", interval=True, headline=False)


ENDED = _of_answers("ended", "share of answers that end by themselves", "share")
TOKENS = replace(_of_answers("tokens", "tokens of an answer", "tokens"), each_round=True, by_round="tokens per answer", digits=1)
DISTINCT = tuple(
    _of_answers(f"distinct_{size}", f"distinct {size}-grams of words among those of a prompt's answers", "share")
    for size in (1, 2)
)
ANSWER_FIGURES = (TOKENS, ENDED, *DISTINCT)
CONTROLLED = Figure(
    name="win_rate/length_controlled",
    title="win rate against before at equal length",
    unit="share",
    better="max",
    interval=True,
    headline=False,
)
TO_REFERENCE = Figure(
    name="kl/reference", title="KL to the last round's reference, nats", unit="nats", interval=True, headline=False
)
"""Measured by the stage `evaluate`, where the reference is another model than the one before training."""
OF_DIVERGENCE = (
    Figure(name="kl/standard_error", title="standard error of the KL", unit="nats", headline=False),
    Figure(name="kl/k1", title="KL by log-ratios (k1), its check", unit="nats", interval=True, headline=False),
    Figure(name="kl/k3", title="KL by the k3 estimate", unit="nats", interval=True, headline=False),
    Figure(name="answers/perplexity", title="perplexity of the answers under the model before", interval=True, headline=False),
)
"""Beside the KL itself; the model before training has none of them."""


def observed_answers(candidates: Sequence[Candidates], tokens: Sequence[int]) -> dict[str, Observed]:
    """Return the figures of `ANSWER_FIGURES`, answer by answer.

    Distinct n-grams (Li et al. 2016) are counted among the answers to one prompt: over all of a model's answers the share
    falls with their number alone, so that it has no interval.

    Args:
        tokens: of each answer, end token included.
    """
    prompts = prompts_of(candidates)
    ended = [float(candidate.has_ended(at)) for candidate in candidates for at in range(len(candidate.responses))]
    observed = {TOKENS.name: Observed([float(count) for count in tokens], prompts), ENDED.name: Observed(ended, prompts)}
    return observed | observed_words(candidates)


def observed_words(candidates: Sequence[Candidates]) -> dict[str, Observed]:
    """Return the figures of `DISTINCT`; one of which no answer has enough words is left out."""
    observed = {}
    for size, figure in enumerate(DISTINCT, start=1):
        grams = [(candidate.prompt.id, list(_grams(candidate.responses, size))) for candidate in candidates]
        kept = [(prompt, words) for prompt, words in grams if words]
        if kept:
            distinct = [float(len(set(words))) for _, words in kept]
            observed[figure.name] = Observed(distinct, [prompt for prompt, _ in kept], [float(len(words)) for _, words in kept])
    return observed


def prompts_of(candidates: Iterable[Candidates]) -> list[str]:
    """Return the prompt's id of each answer."""
    return [candidate.prompt.id for candidate in candidates for _ in candidate.responses]


def _grams(texts: Iterable[str], size: int) -> Iterable[tuple[str, ...]]:
    for text in texts:
        words = text.split()
        yield from zip(*(words[start:] for start in range(size)), strict=False)
