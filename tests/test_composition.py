"""Commands compose to the choices that the README promises; their parts are built, nothing runs."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from dpo_lab.cli.build import build
from dpo_lab.cli.keys import origin, reachable
from dpo_lab.components import ConfigError
from dpo_lab.conf_files import CONF
from dpo_lab.data.sources import FilePairs, HubPairs
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.stages.pretrain import Pretrain
from dpo_lab.stages.train import Train

COLUMNS = ("model", "quant", "data", "ranker", "judge", "adapter", "recipe", "evaluation")


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(command: str, stage: str = "train") -> DictConfig:
    return compose(stage, command.split(), return_hydra_config=True)


def built(command: str) -> Train:
    stage = build(composed(command))
    assert isinstance(stage, Train)
    return stage


def row(command: str) -> str:
    """Return the choices of COLUMNS ("-" where nothing takes from the group), the rounds and the loss's beta."""
    config = composed(command)
    raw: Any = OmegaConf.to_container(
        OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), resolve=False
    )
    used = reachable(raw, ["data", "evaluation"])
    chosen = config.hydra.runtime.choices
    shown = [chosen[column] if column not in ("ranker", "judge") or column in used else "-" for column in COLUMNS]
    stage = build(config)
    assert isinstance(stage, Train)
    return " ".join([*shown, str(stage.iteration.rounds), str(stage.loss.beta)])


# The eight commands of the README. `-m` and the seed's list are Hydra's own; each of the six jobs is a row like the first.
COMMANDS = {
    "": "tiny none films gold gold none tiny generation 3 1.0",
    "model=mistral7b quant=4bit": "mistral7b 4bit snorkel - - lora lora preference 1 0.1",
    "model=mistral7b quant=4bit data=on_policy": "mistral7b 4bit on_policy pairrm same lora lora generation 1 0.1",
    "experiment=snorkel_mistral": "mistral7b 4bit on_policy pairrm same lora lora generation 3 0.01",
    "model=smollm2_135m": "smollm2_135m none ultrafeedback - - lora lora preference 1 0.1",
    "data=jsonl data.path=my_pairs.jsonl": "tiny none jsonl - - none tiny preference 1 1.0",
    "data=jsonl data.path=docs/example_pairs.jsonl": "tiny none jsonl - - none tiny preference 1 1.0",
    "loss=ipo seed=2 logger=wandb": "tiny none films gold gold none tiny generation 3 1.0",
}
OTHERS = {
    "iteration.rounds=1": "tiny none films gold gold none tiny generation 1 1.0",
    "experiment=snorkel_mistral data=snorkel": "mistral7b 4bit snorkel - - lora lora preference 3 0.01",
    "experiment=snorkel_mistral model=smollm2_135m adapter=none": (
        "smollm2_135m 4bit on_policy pairrm same none full generation 3 0.01"
    ),
    "experiment=sppo": "mistral7b none on_policy pairrm same none full generation 3 0.001",
    "experiment=mistral_pairrm data.path=DIR": "mistral7b 4bit jsonl - - lora lora preference 1 0.1",
    "data=on_policy": "tiny none on_policy pairrm same none tiny generation 1 1.0",
    "adapter=none": "tiny none films gold gold none tiny generation 3 1.0",
    "adapter=lora": "tiny none films gold gold lora tiny generation 3 1.0",
    "model=mistral7b adapter=none": "mistral7b none snorkel - - none full preference 1 0.1",
    "model=mistral7b evaluation=generation ranker=pairrm": "mistral7b none snorkel pairrm same lora lora generation 1 0.1",
    "model=mistral7b recipe.beta=0.3": "mistral7b none snorkel - - lora lora preference 1 0.3",
    "model=smollm2_135m data=films": "smollm2_135m none films gold gold lora lora generation 3 0.1",
    "debug=fast": "tiny none films gold gold none tiny generation 1 1.0",
    "debug=overfit": "tiny none films gold gold none tiny generation 1 1.0",
    "debug=profile data=jsonl data.path=my_pairs.jsonl": "tiny none jsonl - - none tiny preference 1 1.0",
}


@pytest.mark.parametrize("command", [*COMMANDS, *OTHERS])
def test_a_command_chooses(command: str) -> None:
    assert row(command) == {**COMMANDS, **OTHERS}[command]


def test_the_default_run_is_the_tiny_model_on_films_with_the_measured_numbers() -> None:
    stage = built("")
    assert isinstance(stage.model, TinyModel)
    assert isinstance(stage.data, OnPolicy)
    sampler: Any = stage.data.sampler
    assert (sampler.num_samples, sampler.temperature, sampler.top_p, sampler.max_new_tokens, sampler.batch_size) == (
        5,
        1,
        1,
        72,
        256,
    )
    optim: Any = stage.optim
    assert (optim.lr, optim.betas) == (5e-4, (0.9, 0.98))
    assert (stage.trainer.epochs, stage.trainer.batch_size, stage.trainer.token_budget) == (2, 32, 1024)
    assert stage.data.max_length == 512


def test_real_models_draw_answers_at_a_lower_temperature() -> None:
    stage = built("model=mistral7b data=on_policy")
    assert isinstance(stage.model, PretrainedModel)
    assert isinstance(stage.data, OnPolicy)
    sampler: Any = stage.data.sampler
    assert (sampler.temperature, sampler.top_p, sampler.max_new_tokens) == (0.7, 0.9, 512)
    optim: Any = stage.optim
    assert (optim.lr, optim.betas, stage.data.max_length) == (5e-6, (0.9, 0.999), 1024)


def test_snorkel_has_one_split_per_round() -> None:
    data = built("model=mistral7b").data
    assert isinstance(data, HubPairs)
    assert data.splits == ("train_iteration_1", "train_iteration_2", "train_iteration_3")


def test_a_file_of_pairs_is_a_path() -> None:
    data = built("data=jsonl data.path=my_pairs.jsonl").data
    assert isinstance(data, FilePairs)
    assert data.path.name == "my_pairs.jsonl"


def test_two_keys_that_point_at_one_part_give_equal_hashable_objects() -> None:
    stage: Any = built("data=on_policy")
    assert {stage.data.ranker} == {stage.evaluation.judge}
    assert {stage.data.sampler} == {stage.evaluation.sampler}


def test_several_loggers_merge_and_local_is_always_there() -> None:
    assert sorted(built("logger=[local,wandb]").logger) == ["local", "wandb"]
    assert sorted(built("logger=wandb").logger) == ["local", "wandb"]


def test_callbacks_merge_and_each_brings_the_default_ones() -> None:
    default = ["checkpoint", "progress", "throughput"]
    assert sorted(built("").callbacks) == default
    assert sorted(built("callbacks=[default,early_stopping]").callbacks) == sorted([*default, "early_stopping"])
    assert sorted(built("callbacks=[samples,profile]").callbacks) == sorted([*default, "samples", "profile"])
    stopping: Any = built("debug=overfit callbacks=[overfit,samples]").callbacks["early_stopping"]
    assert (stopping.metric, stopping.window, stopping.patience, stopping.threshold) == ("loss", 1, None, 0.05)


def test_debug_options_choose_their_callbacks_and_the_command_line_beats_them() -> None:
    assert built("debug=overfit").trainer.max_pairs == 8
    assert "early_stopping" in built("debug=overfit").callbacks
    assert "profile" in built("debug=profile").callbacks
    assert "profile" not in built("debug=profile callbacks=default").callbacks


def test_everything_that_is_written_moves_with_one_key() -> None:
    assert str(built("paths.outputs=elsewhere").outputs) == "elsewhere"


def test_the_command_line_beats_what_a_group_sets() -> None:
    sampler: Any = built("sampler.temperature=0.5 prompts.num_prompts=8 debug=fast").data
    assert (sampler.sampler.temperature, sampler.prompts.num_prompts) == (0.5, 8)


def test_the_stage_pretrain_takes_model_and_data_alone() -> None:
    stage = build(composed("model.hidden_size=64", "pretrain"))
    assert isinstance(stage, Pretrain)
    assert isinstance(stage.model, TinyModel)
    with pytest.raises(ConfigError, match=r"`loss=ipo` has no effect: this stage takes only model, data"):
        build(composed("loss=ipo", "pretrain"))


def test_a_value_is_followed_to_the_key_that_the_user_sets() -> None:
    raw = {"data": {"ranker": "${ranker}"}, "ranker": {"size": "${recipe.size}"}, "recipe": {"size": 1}}
    assert origin(raw, "data.ranker.size") == "recipe.size"
    assert origin(raw, "data.ranker.path") == "ranker.path"


def test_a_part_of_your_own_needs_a_yaml_only(tmp_path: Any) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("_target_: dpo_lab.losses.dpo.DPOLoss\nbeta: 0.7\nlabel_smoothing: 0.1\n")
    config = composed(f"hydra.searchpath=[file://{tmp_path}] loss=mine")
    stage = build(config)
    assert isinstance(stage, Train)
    assert stage.loss.beta == 0.7


# command: the whole message
REFUSED = {
    "optim.lr=0": "optim.lr=0: Input should be greater than 0.",
    "recipe.beta=-1": "recipe.beta=-1: Input should be greater than 0 (used as loss.beta).",
    "recipe.max_length=3": ("recipe.max_length=3: Input should be greater than or equal to 4 (used as data.max_length)."),
    "seed=1.5": "seed=1.5: Input should be a whole number.",
    "optim.schedule=cosin": (
        "optim.schedule=cosin: Input should be 'cosine', 'linear', 'constant' or 'flat_then_linear'. Did you mean 'cosine'?"
    ),
    "optim.betas=[0.9,2]": "optim.betas=[0.9,2]: Input should be less than or equal to 1.",
    "loss=mpo loss.weights.dpo=0 loss.weights.bco=0 loss.weights.nll=0": (
        "loss.weights={dpo:0,bco:0,nll:0}: every weight is 0, so nothing would be trained; "
        "give at least one loss a weight above 0."
    ),
    "optim.lr=0 optim.eps=-1": "optim.lr=0: Input should be greater than 0. optim.eps=-1: Input should be greater than 0.",
    "+optim.epz=1": (
        "optim.epz is not known. Did you mean 'optim.eps'? "
        "Valid: betas, clip, eps, final, lr, schedule, warmup, warmup_from, weight_decay."
    ),
    "loss=wpo +loss.beta=0.3": "loss.beta is not known. Did you mean 'loss.loss.beta' or 'recipe.beta'? Valid: loss.",
    "data=jsonl": "data.path has no value. Add data.path=...",
    "model=local data=jsonl": "data.path, model.path have no value. Add data.path=... model.path=...",
    "~loss": "loss has no value. Add loss=...",
    "loss.beta=${recipe.betta}": "loss.beta is taken from recipe.betta, which does not exist. Did you mean 'recipe.beta'?",
    "model=mistral7b ranker=pairrm": (
        "`ranker=pairrm` has no effect: with data=snorkel and evaluation=preference nothing takes ranker. "
        "Use data=on_policy or evaluation=generation"
    ),
    "model=mistral7b ranker.tokens_per_batch=4": (
        "`ranker.tokens_per_batch=4` has no effect: with data=snorkel and evaluation=preference nothing takes "
        "ranker.tokens_per_batch. "
        "Use data=on_policy or evaluation=generation"
    ),
    "model=mistral7b judge=gold": ("`judge=gold` has no effect: with evaluation=preference nothing takes judge. Leave it out."),
    "loss.beta=0.1 recipe.beta=0.2": (
        "`recipe.beta=0.2` has no effect: loss=dpo takes recipe.beta, but loss.beta=0.1 gives that value directly. "
        "Leave one of the two out."
    ),
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_is_refused_at_the_key_that_was_set(command: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(composed(command))
    assert str(refused.value) == REFUSED[command]


def test_a_key_that_is_neither_field_nor_group_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^experimnt is neither .* Did you mean 'experiment'\? Valid: adapter, "):
        build(composed("+experimnt=snorkel"))


def test_a_class_that_does_not_exist_is_named_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^loss\._target_=.*DPOLos: .* has no DPOLos\. Did you mean 'DPOLoss'"):
        build(composed("loss._target_=dpo_lab.losses.dpo.DPOLos"))
