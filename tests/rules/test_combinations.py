"""What a stage is refused for, one test per rule and per part's own check, and that its neighbour is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.prompts import FilmPrompts, HubPrompts
from dpo_lab.data.sources import FilePairs, HubPairs
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import EightBit, FourBit
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.ema import EMAReference
from dpo_lab.reference.none import NoReference
from dpo_lab.rules.check import RULES, refuse_illegal
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.stages.train import Train
from dpo_lab.training.callbacks import EarlyStopping, Profile
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW, AdamW8bit
from dpo_lab.training.settings import TrainerSettings

FILM_DATA = OnPolicy(prompts=FilmPrompts(), sampler=HFSampler(), ranker=GoldRanker(), pairing=BestVsWorst())
FILM_EVALUATION = GenerationEvaluation(prompts=FilmPrompts(), sampler=HFSampler(), judge=GoldRanker())
FILE = FilePairs(path=Path("pairs.jsonl"))
HUB = HubPairs(path="someone/pairs", splits=("one", "two"))
OTHER_PROMPTS = HubPrompts(path="someone/prompts", split="train", held_out_split="test")
OTHER_EVALUATION = GenerationEvaluation(prompts=OTHER_PROMPTS, sampler=HFSampler(), judge=LengthRanker())

LEGAL = Train(
    model=TinyModel(),
    data=FILM_DATA,
    loss=DPOLoss(),
    reference=CachedReference(),
    optim=AdamW(),
    evaluation=FILM_EVALUATION,
    layout=PaddedLayout(),
    precision=Precision(),
    trainer=TrainerSettings(),
    iteration=Iteration(rounds=3),
    callbacks={},
    logger={},
)
ONE_ROUND = Iteration(rounds=1)
ON_FILE: dict[str, Any] = {"data": FILE, "evaluation": PreferenceEvaluation(), "iteration": ONE_ROUND}


def message(**parts: Any) -> str:
    """Return why the legal stage with other parts is refused, or nothing."""
    try:
        refuse_illegal(replace(LEGAL, **parts))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("quant", "bits"), [(FourBit(), 4), (EightBit(), 8)])
def test_a_quantised_base_is_not_trained_in_full(quant: Any, bits: int) -> None:
    refused = f"a base in {bits} bits cannot be trained in full; use adapter=lora, or quant=none."
    assert message(model=TinyModel(quant=quant, adapter=NoAdapter())) == refused
    assert message(model=TinyModel(quant=quant, adapter=LoRA())) == ""


def test_the_lengths_of_8_bit_weights_are_not_trained() -> None:
    assert message(model=TinyModel(quant=EightBit(), adapter=LoRA(dora=True))) == (
        "quant=8bit with adapter=dora: the lengths of 8-bit weights cannot be read; use quant=4bit, or adapter=lora."
    )
    assert message(model=TinyModel(quant=FourBit(), adapter=LoRA(dora=True))) == ""
    assert message(model=TinyModel(quant=EightBit(), adapter=LoRA(rslora=True))) == ""


def test_a_file_of_pairs_serves_one_round() -> None:
    refused = message(**{**ON_FILE, "iteration": Iteration(rounds=3)})
    assert refused == (
        "iteration.rounds=3: its pairs are given, and serve one round; "
        "use iteration.rounds=1, or pairs made in each round: model=smollm2_135m data=on_policy."
    )
    assert message(**ON_FILE) == ""


def test_a_data_set_serves_as_many_rounds_as_it_has_splits() -> None:
    parts = {**ON_FILE, "data": HUB}
    assert message(**{**parts, "iteration": Iteration(rounds=3)}).startswith(
        "iteration.rounds=3: the data has 2 splits, one per round; use iteration.rounds=2"
    )
    assert message(**{**parts, "iteration": Iteration(rounds=2)}) == ""


def test_made_pairs_hold_no_pairs_out() -> None:
    refused = message(evaluation=PreferenceEvaluation())
    assert refused.startswith("this evaluation needs held-out pairs")
    assert refused.endswith("use evaluation=generation.")


def test_film_questions_do_not_evaluate_given_pairs() -> None:
    refused = message(**{**ON_FILE, "evaluation": FILM_EVALUATION})
    assert (
        refused == "evaluation=generation asks about films, but the pairs are given and of other text; use evaluation=preference."
    )
    assert message(**{**ON_FILE, "evaluation": OTHER_EVALUATION}) == ""


def test_gold_ranks_answers_about_films_only() -> None:
    data = replace(FILM_DATA, prompts=OTHER_PROMPTS)
    assert "use prompts=films, or ranker=length (a control" in message(data=data, evaluation=OTHER_EVALUATION)
    given = PretrainedModel(path="org/name", licence="mit")
    assert message(data=replace(data, ranker=LengthRanker()), evaluation=OTHER_EVALUATION, model=given) == ""


def test_prompts_alone_are_nothing_that_the_tiny_model_could_learn_its_words_from() -> None:
    data = replace(FILM_DATA, prompts=OTHER_PROMPTS, ranker=LengthRanker())
    refused = message(data=data, evaluation=OTHER_EVALUATION)
    assert refused.startswith("model=tiny learns its words from the data")
    assert refused.endswith("use model=smollm2_135m data=on_policy, or prompts=films.")


def test_gold_judges_answers_about_films_only() -> None:
    data = replace(FILM_DATA, prompts=OTHER_PROMPTS, ranker=LengthRanker())
    refused = message(data=data, evaluation=replace(OTHER_EVALUATION, judge=GoldRanker()))
    assert refused.startswith("judge=gold can judge answers about films only")
    assert "; use judge=same ranker=length (a control" in refused
    assert message(**{**ON_FILE, "evaluation": replace(OTHER_EVALUATION, judge=GoldRanker())}) == refused.partition(" Also: ")[0]


def test_rounds_that_the_film_world_has_no_prompts_for_are_refused_before_the_first() -> None:
    refused = message(iteration=Iteration(rounds=10))  # 10 x 600 of 5826
    assert refused.startswith("prompts.num_prompts=600, round 10: ")
    assert message(iteration=Iteration(rounds=9)) == ""
    assert message(iteration=Iteration(rounds=10, prompts="same")) == ""


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused = message(trainer=TrainerSettings(accelerator="gpu"))
    assert refused == "trainer.accelerator=gpu, and torch sees no GPU here; use trainer=auto or trainer=cpu."


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert message(trainer=TrainerSettings(devices=2)) == ""
    assert message(trainer=TrainerSettings(devices=4)) == "trainer.devices=4, and torch sees 2 GPUs; use trainer.devices=2."
    assert message(trainer=TrainerSettings(devices=4, accelerator="cpu")) == ""
    assert message(trainer=TrainerSettings(accelerator="auto")) == ""


@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA()])
def test_bf16_weights_need_a_rate_that_moves_them(adapter: Any) -> None:
    true = Precision(mode="bf16-true")
    assert message(precision=true, optim=AdamW(lr=5e-7), model=TinyModel(adapter=adapter)) == (
        "precision=bf16_true with optim.lr=5e-07: bf16 has 8 bits of mantissa, a weight of size w changes only by more than "
        "w/256, and smaller updates are lost (full fine-tuning at 5e-7 changed 0.9 % of the weights, 95.7 % with fp32 weights); "
        "use precision=bf16, whose weights are fp32, or optim.lr=0.0001 and above."
    )
    assert message(precision=true, optim=AdamW(lr=1e-4)) == ""
    assert message(precision=Precision(mode="bf16-mixed"), optim=AdamW(lr=5e-7)) == ""


def test_bf16_weights_are_not_asked_to_be_fp32_nor_to_hold_lengths() -> None:
    true, optim = Precision(mode="bf16-true"), AdamW(lr=1e-3)
    base = PretrainedModel(path="a", licence="none", dtype="fp32")
    assert message(precision=true, optim=optim, model=base) == (
        "precision=bf16_true with model.dtype=fp32: weights cannot be both; use model.dtype=auto, or precision=bf16."
    )
    assert message(precision=true, optim=optim, model=replace(base, dtype="bf16")) == ""
    refused = message(precision=true, optim=optim, model=TinyModel(adapter=LoRA(dora=True)))
    assert refused.startswith("precision=bf16_true with adapter.dora=true: lengths rounded to bf16 begin up to 0.4 % away")
    assert message(precision=true, optim=optim, model=TinyModel(adapter=LoRA(rslora=True))) == ""


def test_heads_have_to_share_the_width() -> None:
    refused = message(model=TinyModel(hidden_size=100, num_heads=4))
    assert refused == "model.hidden_size=100 is not a multiple of 2 x model.num_heads=4; use model.hidden_size=104."
    assert message(model=TinyModel(hidden_size=96, num_heads=4)) == ""


def test_a_loss_that_compares_needs_a_reference() -> None:
    assert message(reference=NoReference()).startswith("reference=none leaves this loss nothing to compare with")


def test_a_reference_that_moves_is_for_losses_that_compare() -> None:
    assert message(reference=EMAReference(), loss=SimPOLoss()) == (
        "this loss uses no reference, so reference=ema has no effect; use reference=none."
    )
    assert message(reference=EMAReference()) == ""
    assert message(reference=EMAReference(), model=TinyModel(adapter=LoRA()), iteration=Iteration(reference="first")) == ""


def test_everything_that_is_wrong_is_said_at_once() -> None:
    both = message(evaluation=PreferenceEvaluation(), reference=NoReference())
    assert "this evaluation needs held-out pairs" in both
    assert " Also: reference=none leaves this loss" in both


def test_start_and_reference_of_a_single_round_do_no_harm() -> None:
    assert message(iteration=Iteration(rounds=1, start="first", reference="first")) == ""


def stopping(**fields: Any) -> str:
    return message(callbacks={"budget": EarlyStopping(**fields)})


def test_early_stopping_that_would_never_stop_is_refused() -> None:
    refused = (
        "callbacks.budget.patience=null and callbacks.budget.threshold=null: it would never stop; give one of them a number."
    )
    assert stopping(patience=None) == refused
    assert stopping(patience=None, threshold=0.1) == stopping() == ""


@pytest.mark.parametrize(
    ("metric", "wrong", "right", "how"),
    [
        ("loss", "max", "min", "falling"),
        ("rewards/margins", "min", "max", "growing"),
        ("rewards/accuracies", "min", "max", "growing"),
    ],
)
def test_early_stopping_that_would_stop_because_training_works_is_refused(metric: str, wrong: str, right: str, how: str) -> None:
    assert stopping(metric=metric, mode=wrong) == (
        f"callbacks.budget.mode={wrong} would end training because it works: {metric} gets better by {how}; "
        f"use callbacks.budget.mode={right}."
    )
    assert stopping(metric=metric, mode=right) == ""
    assert stopping(metric=metric, mode=wrong, patience=None, threshold=1.0) == ""
    assert stopping(metric="kl/implicit", mode=wrong) == ""


def test_a_profile_of_more_steps_than_are_taken_is_refused() -> None:
    callbacks = {"profile": Profile(wait=1, warmup=1, active=3)}
    assert message(callbacks=callbacks, trainer=TrainerSettings(max_steps=4)) == (
        "callbacks.profile needs 5 optimizer steps, and trainer.max_steps=4; "
        "use trainer.max_steps=5, or set callbacks.profile for fewer."
    )
    assert message(callbacks=callbacks, trainer=TrainerSettings(max_steps=5)) == message(callbacks=callbacks) == ""


def test_a_rule_says_what_it_is_about() -> None:
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(
    "figure", ["", "gold/after", "kl", "win_rate/low", "gold/round_3", "well_formed/after", "kl/round_1", "gold/before"]
)
def test_figures_of_made_pairs_can_be_optimized(figure: str) -> None:
    assert message(optimized_metric=figure) == ""


def test_a_figure_that_made_pairs_will_not_give_is_refused_with_those_they_will() -> None:
    refused = message(optimized_metric="gold/afterr", iteration=ONE_ROUND)
    assert refused.startswith(
        "optimized_metric=gold/afterr: this run's summary will not have it. Did you mean 'gold/after'? "
        "Valid: gold/after, gold/before, win_rate, win_rate/previous, kl, well_formed/after, well_formed/before, answers/tokens"
    )
    assert refused.endswith("made/score/round_1, and NAME/low and NAME/high of those with an interval.")
    assert message(optimized_metric="gold/round_4").startswith("optimized_metric=gold/round_4: this run's summary will not")
    assert message(optimized_metric="eval/accuracy").startswith("optimized_metric=eval/accuracy: this run's summary will not")


def test_figures_of_given_pairs_depend_on_reference_and_held_out_pairs() -> None:
    for figure in ("eval/accuracy", "eval/loss/before", "eval/losses/ipo", "eval/rewards/margins"):
        assert message(**ON_FILE, optimized_metric=figure) == ""
    without = {**ON_FILE, "reference": NoReference(), "loss": SimPOLoss()}
    assert message(**without, optimized_metric="eval/losses/simpo") == ""
    assert message(**without, optimized_metric="eval/losses/dpo").startswith("optimized_metric=eval/losses/dpo: this run's")
    assert message(**without, optimized_metric="eval/loss/before").endswith(
        ", eval/losses/NAME of a loss, and NAME/low and NAME/high of those with an interval."
    )
    nothing = {**ON_FILE, "data": replace(FILE, held_out=0), "optimized_metric": "eval/accuracy"}
    assert message(**nothing) == (
        "optimized_metric=eval/accuracy: nothing is held out, so the run will have no figures; use data.held_out=N."
    )


def test_without_a_wish_runs_are_compared_by_the_main_figure_of_their_evaluation() -> None:
    made, given = {"win_rate": 0.5, "gold/after": 0.75}, {"eval/loss": 0.25, "eval/accuracy": 0.5}
    assert LEGAL.figure(made) == ("gold/after", 0.75)
    assert replace(LEGAL, **ON_FILE).figure(given) == ("eval/accuracy", 0.5)
    assert replace(LEGAL, **ON_FILE, optimized_metric="eval/loss").figure(given) == ("eval/loss", 0.25)
    assert replace(LEGAL, **{**ON_FILE, "data": replace(FILE, held_out=0)}).figure({"seconds/dpo": 1.0}) is None


def test_attention_kernels_of_a_gpu_are_refused_without_one() -> None:
    assert message(optim=AdamW8bit(paged=True)) == "optim.paged=true needs a GPU; use optim.paged=false."
    assert message(layout=PrefixLayout(attention="flex")) == "layout.attention=flex needs a GPU; use layout.attention=sdpa."
