"""Data that does not go together with the rounds, the loss or the evaluation."""

from collections.abc import Callable

from dpo_lab.components import ConfigError
from dpo_lab.data.base import Data
from dpo_lab.data.prompts import MAX_FAULTY
from dpo_lab.evaluation.base import Measure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.models.spec import ModelSpec
from dpo_lab.ranking.base import excerpt_of
from dpo_lab.training.iteration import Iteration


def more_rounds_than_given_pairs(data: Data, iteration: Iteration, model: ModelSpec) -> str | None:
    """Given pairs serve one round, or as many as the data set has splits."""
    rounds, available = iteration.rounds, data.max_rounds
    if available is None or rounds <= available:
        return None
    has = "its pairs are given, and serve one round" if available == 1 else f"the data has {available} splits, one per round"
    made = "model=smollm2_135m data=on_policy" if model.recipe and not model.pretrained else "data=on_policy"
    return f"iteration.rounds={rounds}: {has}; use iteration.rounds={available}, or pairs made in each round: {made}."


def held_out_pairs_of_made_pairs(data: Data, evaluation: Measure) -> str | None:
    """Made pairs are all trained on; what is held out are prompts."""
    if not evaluation.on_pairs or data.holds_out or not data.makes_pairs:
        return None
    return "this evaluation needs held-out pairs, but this data makes its pairs to train on; use evaluation=generation."


def evaluation_of_another_topic(data: Data, evaluation: Measure) -> str | None:
    """Answers about one small world say nothing of a model that was trained on other text."""
    topic = evaluation.asks.topic if evaluation.asks else ""
    if data.makes_pairs or not topic:
        return None
    return f"evaluation=generation asks about {topic}, but the pairs are given and of other text; use evaluation=preference."


def labels_that_made_pairs_lack(data: Data, loss: PreferenceLoss) -> str | None:
    """Some losses read how sure the ranker is; of given pairs only reading tells."""
    if data.labels is None or set(loss.needs_labels) <= {*data.labels}:
        return None
    made_by = "=".join(data.choices[0]) if data.choices else "the data"
    what = "win probability" if "preference" in loss.needs_labels else "scores"
    return f"this loss reads the ranker's {what}, and {made_by} gives none; use loss=dpo."


def lists_that_a_loss_cannot_read(data: Data, loss: PreferenceLoss) -> str | None:
    """Most losses compare two answers."""
    if not data.makes_lists or loss.takes_lists:
        return None
    return (
        "pairing=all_k makes ranked lists, and this loss compares two answers; use loss=plackett_luce, or pairing=all_pairs "
        "for every pair of the list."
    )


def embedded_prompts_run_out(data: Data, iteration: Iteration, seed: int) -> str | None:
    """Where nothing has to be read, it costs nothing to look."""
    return prompts_run_out(data, iteration, seed) if data.asks and data.asks.embedded else None


def text_that_the_tiny_model_lacks(data: Data, model: ModelSpec) -> str | None:
    """The tiny model learns its words from examples or from given pairs; prompts alone have neither."""
    if model.pretrained or not model.recipe or not data.asks or not data.makes_pairs or data.asks.brings_examples:
        return None
    return (
        f"model=tiny learns its words from the data, and prompts={data.asks.label} brings no answers to learn from; "
        "use model=smollm2_135m data=on_policy, or prompts=films."
    )


def prompts_run_out(data: Data, iteration: Iteration, seed: int) -> str | None:
    """Rounds share no prompts, so the last one may have none left; else it shows after hours."""
    if not data.asks:
        return None
    try:
        data.asks.for_round(0 if iteration.prompts == "same" else iteration.rounds - 1, seed)
    except ConfigError as error:
        return str(error)
    return None


def answers_that_prompts_lack(data: Data, iteration: Iteration, seed: int) -> str | None:
    """A pairing against the data's own answers needs them; the few prompts without one are left out and counted."""
    if not (data.asks and data.reads_answers):
        return None
    rounds = range(1 if iteration.prompts == "same" else iteration.rounds)
    try:
        prompts = [prompt for number in rounds for prompt in data.asks.for_round(number, seed)]
        answers = data.asks.answers(prompts, seed)
    except ConfigError:
        return None  # `prompts_run_out` says it
    without = [prompt for prompt, answer in zip(prompts, answers, strict=True) if not answer]
    if len(without) <= MAX_FAULTY * len(prompts):
        return None
    return (
        f"pairing=spin sets the data's own answer against drawn ones, and {len(without)} of {len(prompts)} prompts of "
        f"{data.asks.label} have none, the first of them {excerpt_of(without[0])}; name the column that holds answers "
        "(prompts.answer=NAME), or use pairing=best_vs_worst."
    )


RULES: tuple[Callable[..., str | None], ...] = (
    more_rounds_than_given_pairs,
    held_out_pairs_of_made_pairs,
    evaluation_of_another_topic,
    embedded_prompts_run_out,
    text_that_the_tiny_model_lacks,
    labels_that_made_pairs_lack,
    lists_that_a_loss_cannot_read,
)
SLOW_RULES: tuple[Callable[..., str | None], ...] = (prompts_run_out, answers_that_prompts_lack)
