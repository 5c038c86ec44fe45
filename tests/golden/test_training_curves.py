"""Twelve recorded trainings of twenty steps, repeated by this project's own module and Trainer, figure by figure.

The recordings are those of the first DPO code (`reference_*`) and of TRL (`trl_float32`): see golden/README.md in the
shared data for where the tolerances come from.
"""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.apo import APOZeroLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.mixture import MixtureLoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import load_model
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.passes import batches_of
from dpo_lab.scoring.score import response_logits, score
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW, Optim, RMSprop
from dpo_lab.training.settings import TrainerSettings

LAYOUT = PaddedLayout()
STEPS = 20

LOSSES: dict[str, PreferenceLoss] = {
    "dpo_adamw": DPOLoss(beta=0.1),
    "ipo_adamw": IPOLoss(beta=0.1, reduction="sum"),
    "ipo_trl_adamw": IPOLoss(beta=0.1, reduction="mean"),
    "cdpo_adamw": DPOLoss(beta=0.1, label_smoothing=0.1),
    "robust_trl_adamw": RobustDPOLoss(beta=0.1, label_smoothing=0.1),
    "hinge_trl_adamw": HingeLoss(beta=0.1),
    "sigmoid_norm_trl_adamw": DPOLoss(beta=0.1, reduction="mean"),
    "apo_zero_trl_adamw": APOZeroLoss(beta=0.1),
    "sigmoid_plus_sft_trl_adamw": MixtureLoss(
        losses={"dpo": DPOLoss(beta=0.1), "sft": NLLLoss(reduction="step")}, weights={"dpo": 1.0, "sft": 0.05}
    ),
    "dpo_rmsprop_warmup_clip": DPOLoss(beta=0.1),
    "dpo_adamw_linear_warmup4_clip1": DPOLoss(beta=0.1),
    "dpo_lora_adamw": DPOLoss(beta=0.1),
}

FLOAT64 = (
    *("dpo_adamw", "ipo_adamw", "cdpo_adamw"),
    *("dpo_rmsprop_warmup_clip", "dpo_adamw_linear_warmup4_clip1", "dpo_lora_adamw"),
)
END_RECORDED = ("dpo_adamw", "ipo_adamw", "dpo_lora_adamw")
FAST = ("dpo_adamw",)  # float64 costs three times as much; every curve is fast in float32
# in micro-batches of 4: accumulation is recorded as equal to steps of 8, and TRL's SFT term couples the pairs of a step
SPLIT = ("dpo_adamw", "sigmoid_plus_sft_trl_adamw")

SCHEDULES: dict[str, dict[str, Any]] = {  # by the first word of the recorded schedule
    "constant,": {"warmup": 0.0, "schedule": "constant"},
    "lr": {"warmup": 6 / STEPS, "schedule": "constant"},  # min(1, (step + 1) / (5 + 1)): six steps up to the peak
    "linear": {"warmup": 4 / STEPS, "warmup_from": "zero", "schedule": "linear", "final": 0.0},
}

NAMES = {
    "loss": "loss",
    "rewards_chosen": "rewards/chosen",
    "rewards_rejected": "rewards/rejected",
    "margin": "rewards/margins",
    # the smallest margin of a pair that is not exactly 0 is 1.5e-4, so that no rounding decides whether it counts
    "accuracy": "rewards/accuracies",
    "logps_chosen": "logps/chosen",
    "logps_rejected": "logps/rejected",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
}
TRL_ALONE = {"entropy", "mean_token_accuracy", "num_tokens"}  # not figures of this project
CURVES = ("reference_float64", "reference_float32", "trl_float32")
ENDS = {
    "initial_logps_float64",
    "final_logps_float64",
    "final_parameter_l2_norms_float64",
    "total_update_l2_norm_float64",
    "greedy_generation_16_tokens_float64",
}
ACCUMULATION = "gradient_accumulation_2x4_max_rel_difference_to_batch_8"  # see SPLIT


@dataclass(frozen=True)
class Golden:
    """What is stored."""

    runs: dict[str, Any]
    store: TokenStore
    model: nn.Module
    lora: dict[str, Tensor]


@dataclass(frozen=True)
class Repeat:
    """One training of this project: its module before and after, and its lines of metrics.jsonl."""

    before: PreferenceModule
    after: PreferenceModule
    lines: list[dict[str, float]]


Repeats = Callable[[str, torch.dtype], Repeat]


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> Golden:
    """The recordings, the pairs and the weights that they start from."""
    directory = shared_data / "golden"
    builder = StoreBuilder()
    for pair in json.loads((directory / "train_pairs.json").read_text()):
        sides = [builder.add_response(pair["prompt_ids"], pair[f"{side}_ids"]) for side in ("chosen", "rejected")]
        builder.add_item(sides)
    return Golden(
        runs=json.loads((directory / "train_curves.json").read_text())["runs"],
        store=builder.build(),
        model=load_model(str(directory / "tiny_mistral")).model,
        lora=load_file(directory / "lora_init.safetensors"),
    )


def optim_of(config: dict[str, Any]) -> Optim:
    """Return the optimizer that a recording describes."""
    kind = RMSprop if "RMSprop" in config["optimizer"] else AdamW
    return kind(lr=config["lr"], clip=config["max_grad_norm"], **SCHEDULES[config["schedule"].split()[0]])


def module_of(golden: Golden, name: str, dtype: torch.dtype) -> PreferenceModule:
    """Return the module of a recording at its start, every weight of one type.

    In float64 with the attention of the recordings, whose softmax is in float32: sdpa differs from it by 1e-7, which summed
    IPO makes 2e-6 of its loss.
    """
    config = golden.runs[name]["config"]
    policy: Any = copy.deepcopy(golden.model)
    if dtype == torch.float64:
        policy.set_attn_implementation("eager")
    reference = FrozenScorer(copy.deepcopy(policy).to(dtype))
    if "lora" in config:
        shape = config["lora"]
        adapter = LoRA(rank=shape["r"], alpha=shape["lora_alpha"], target_modules=tuple(shape["target_modules"]))
        policy = adapter.attach(policy, seed=0)
        start = {key.replace(".weight", ".default.weight"): weight for key, weight in golden.lora.items()}
        assert set(start) == {key for key, weight in policy.named_parameters() if weight.requires_grad}
        policy.load_state_dict(start, strict=False)
    return PreferenceModule(policy.to(dtype), reference, LOSSES[name], optim_of(config), total_steps=STEPS, seed=0)


@pytest.fixture(scope="module")
def repeat(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Repeats:
    """The function that trains as a recording did, each (run, dtype) once."""
    done: dict[tuple[str, torch.dtype], Repeat] = {}

    def train(name: str, dtype: torch.dtype) -> Repeat:
        config = golden.runs[name]["config"]
        directory = tmp_path_factory.mktemp(name)
        module = module_of(golden, name, dtype)
        before = copy.deepcopy(module)
        size = config["batch_size"]
        budget = 1024 if name in SPLIT else 2**20
        epochs = math.ceil(config["steps"] * size / golden.store.num_pairs)  # "sequential, wrapping at 64"
        batches = item_batches(
            golden.store, LAYOUT, batch_size=size, token_budget=budget, epochs=epochs, seed=0, order="as_given"
        )
        settings = TrainerSettings(
            accelerator="cpu", epochs=epochs, max_steps=config["steps"], batch_size=size, token_budget=budget
        )
        plain = Precision(mode="fp32")  # no autocast; the weights keep the type that they come in
        rows: list[dict[str, float]] = []
        fit(module, batches, settings, plain, part=Part("", STEPS), directory=directory, record=rows.append)
        assert {weight.dtype for weight in module.parameters()} == {dtype}
        return Repeat(before, module, rows)

    def cached(name: str, dtype: torch.dtype) -> Repeat:
        if (name, dtype) not in done:
            done[name, dtype] = train(name, dtype)
        return done[name, dtype]

    return cached


def tolerance(name: str, recording: str, dtype: torch.dtype, figure: str) -> float:
    """Return the largest difference allowed, relative to max(1, |value|): golden/README.md."""
    if dtype == torch.float64 and recording == "reference_float64":
        return 1e-6
    if name == "ipo_adamw":  # squares of summed log-ratios
        return 1e-3 if figure == "loss" else 2e-4
    return 2e-5


def relative(ours: float, theirs: float) -> float:
    """Return a difference relative to max(1, |value|)."""
    return abs(ours - theirs) / max(1.0, abs(theirs))


def compare(golden: Golden, name: str, dtype: torch.dtype, lines: list[dict[str, float]]) -> None:
    """Compare every figure of every step with every recording of a run."""
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for recording in [curve for curve in CURVES if curve in golden.runs[name]]:
        for step, (ours, theirs) in enumerate(zip(lines, golden.runs[name][recording], strict=True)):
            for figure in set(theirs) - TRL_ALONE:
                gap = relative(ours[NAMES[figure]], theirs[figure])
                assert gap <= tolerance(name, recording, dtype, figure), (recording, step, figure)


def slow_but(*fast: str, of: Sequence[str]) -> list[Any]:
    """Return names as parameters, all but some marked slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in of]


@pytest.mark.parametrize("name", LOSSES)
def test_a_curve_in_float32_is_every_recording_of_it(golden: Golden, repeat: Repeats, name: str) -> None:
    compare(golden, name, torch.float32, repeat(name, torch.float32).lines)


@pytest.mark.parametrize("name", slow_but(*FAST, of=FLOAT64))
def test_a_curve_in_float64_is_the_recording_of_it_to_a_millionth(golden: Golden, repeat: Repeats, name: str) -> None:
    compare(golden, name, torch.float64, repeat(name, torch.float64).lines)


def largest_gap(golden: Golden, model: nn.Module, recorded: dict[str, list[float]]) -> float:
    """Return by how much a model's log-probabilities of all responses differ from recorded ones of all pairs."""
    ours = torch.empty(golden.store.num_responses, dtype=torch.float64)
    with torch.no_grad():
        for responses in batches_of(golden.store, LAYOUT):
            ours[responses] = score(model, LAYOUT.rows(golden.store, responses)).sums
    theirs = torch.tensor([recorded["chosen"], recorded["rejected"]], dtype=torch.float64).T
    return float(((ours[golden.store.pairs] - theirs).abs() / theirs.abs().clamp(min=1)).max())


def test_every_pair_has_the_recorded_log_probabilities_before_training(golden: Golden) -> None:
    recorded = golden.runs["dpo_adamw"]["initial_logps_float64"]
    assert largest_gap(golden, module_of(golden, "dpo_adamw", torch.float64).policy, recorded) <= 1e-6


@pytest.mark.parametrize("name", slow_but(*FAST, of=END_RECORDED))
def test_every_pair_has_the_recorded_log_probabilities_after_training(golden: Golden, repeat: Repeats, name: str) -> None:
    policy = repeat(name, torch.float64).after.policy
    assert largest_gap(golden, policy, golden.runs[name]["final_logps_float64"]) <= 1e-6


def test_the_trained_weights_have_the_recorded_norms(golden: Golden, repeat: Repeats) -> None:
    done, recorded = repeat("dpo_adamw", torch.float64), golden.runs["dpo_adamw"]
    before, after = (dict(module.policy.state_dict()) for module in (done.before, done.after))
    norms = recorded["final_parameter_l2_norms_float64"]
    assert set(after) == set(norms)
    assert max(relative(float(after[name].norm()), norms[name]) for name in norms) <= 1e-6
    update = math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in norms))
    assert relative(update, recorded["total_update_l2_norm_float64"]) <= 1e-6


def test_the_recorded_greedy_answers_are_the_likeliest_tokens(golden: Golden, repeat: Repeats) -> None:
    done = repeat("dpo_adamw", torch.float64)
    answers = golden.runs["dpo_adamw"]["greedy_generation_16_tokens_float64"]
    assert len(answers) == 6
    for module, model in ((done.before, "reference"), (done.after, "final_policy")):
        builder = StoreBuilder()
        rows = [builder.add_response(answer["prompt_ids"], answer[model]) for answer in answers]
        batch = LAYOUT.rows(builder.build(), rows)
        with torch.no_grad():
            assert torch.equal(torch.cat([*response_logits(module.policy, batch)]).argmax(-1), batch.targets)


def test_no_recording_is_passed_over(golden: Golden) -> None:
    assert set(LOSSES) == set(golden.runs)
    recordings = [(name, recording) for name, run in golden.runs.items() for recording in CURVES if recording in run]
    assert (len(golden.runs), len(recordings)) == (12, 16)
    assert set(FLOAT64) == {name for name, recording in recordings if recording == "reference_float64"}
    assert set(END_RECORDED) == {name for name, run in golden.runs.items() if "final_logps_float64" in run}
    for name, run in golden.runs.items():
        assert set(run) <= {"config", *CURVES, *ENDS, ACCUMULATION}, name
        for recording in set(run) & set(CURVES):
            assert len(run[recording]) == run["config"]["steps"] == STEPS
            assert all(set(row) - TRL_ALONE == set(NAMES) for row in run[recording])
