"""The model that a run starts from: pretrained weights, or the tiny one, made once for its text."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan, content_id
from dpo_lab.components import ConfigError
from dpo_lab.damage import examine
from dpo_lab.data.base import Data, GivenPairs
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.directory import base_of
from dpo_lab.models.given import recorded_below
from dpo_lab.models.hub import commit_of
from dpo_lab.models.load import ModelOnDisk, save_model
from dpo_lab.models.spec import NEITHER, ModelSpec, PretrainedModel, TinyModel
from dpo_lab.models.storage import Storage, id_of
from dpo_lab.models.tiny import learn_tokenizer, untrained
from dpo_lab.pipeline.real_model import parameters_of
from dpo_lab.progress import say
from dpo_lab.records import PreferencePair, Prompt, digest_of
from dpo_lab.seeding import derive
from dpo_lab.training.callbacks import Checkpoint
from dpo_lab.training.sft import fine_tune

TOKENIZER_EXAMPLES = 2000  # enough to meet every word of the film world


def base_model(
    spec: ModelSpec,
    data: Data,
    given: GivenPairs | None,
    *,
    root: Path,
    seed: int,
    storage: Storage = Storage(),  # noqa: B008
    force: bool = False,
    announce: Callable[[int | None], None] = lambda parameters: None,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008
) -> tuple[ModelOnDisk, Artifact | None]:
    """Return the model to start from, and the artifact it is if this project made it.

    Args:
        storage: how its weights are held from here on; a quantised model is another model.
        announce: told the model's number of parameters (None: not known before it is loaded) before the long work.
        checkpoint: how often the making of the tiny model is saved.

    Raises:
        ConfigError: if the model is neither pretrained nor made here, or the data has no text to make it from.
    """
    if spec.pretrained:
        announce(parameters_of(spec))
        return pretrained_model(spec.pretrained, root=root, storage=storage), None
    if spec.recipe is None:
        raise ConfigError(f"model: {type(spec).__name__} {NEITHER}")
    artifact = tiny_model(spec.recipe, data, given, root=root, seed=seed, force=force, announce=announce, checkpoint=checkpoint)
    if not artifact.made_now:
        announce(artifact.facts["parameters"])
    return ModelOnDisk(str(artifact.path), id_of(artifact.id, storage), storage), artifact


def tiny_model(
    recipe: TinyModel,
    data: Data,
    given: GivenPairs | None,
    *,
    root: Path,
    seed: int,
    force: bool,
    announce: Callable[[int | None], None],
    checkpoint: Checkpoint,
) -> Artifact:
    """Return the tiny model of a data set's text; ConfigError if the data set has none."""
    examples = data.asks.examples(recipe.sft_examples, seed) if data.asks else []
    if not examples and given is None:
        raise ConfigError(
            f"model=tiny learns its words from the data, and data={data.label} brings none. "
            "Use data=films, data=jsonl data.path=FILE, or a pretrained model: model=smollm2_135m."
        )
    pairs = given.train if given else []
    text = digest_of(((pair.prompt.messages, pair.chosen, pair.rejected) for pair in pairs), examples)
    content = {"model": recipe.birth(), "text": text, "seed": seed}
    plan = Plan(root, "model", f"{recipe.label}-{data.label}", content)

    def produce(directory: Path) -> dict[str, Any]:
        return make_tiny(recipe, examples, pairs, seed, directory, announce, checkpoint)

    return plan.make(produce, force=force, resume=True)


def pretrained_model(weights: PretrainedModel, *, root: Path, storage: Storage) -> ModelOnDisk:
    """Return a given model, known by the content of its files and by how they are held; a Hub model by its commit."""
    held = replace(storage, revision=commit_of(base_of(weights.path), weights.revision))  # one commit for all that is loaded
    tell_of_changes(weights.path)
    with recorded_below(root):
        identity = id_of(content_id("pretrained", {**weights.birth(), "revision": held.revision}), held)
    return ModelOnDisk(weights.path, identity, held, given=True)


def tell_of_changes(path: str) -> None:
    """Say that a given model's directory, which this project wrote, is not as it was written: edited, or damaged."""
    if damage := examine(Path(path)).damage:
        say(f"  model.path={path} is not as it was written: {damage}. It is used as it is; if nobody changed it, it is damaged.")


def make_tiny(
    spec: TinyModel,
    examples: list[tuple[Prompt, str]],
    pairs: list[PreferencePair],
    seed: int,
    directory: Path,
    announce: Callable[[int | None], None],
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008
) -> dict[str, Any]:
    """Write the tiny model: tokenizer learned from the text, random weights, fine-tuned if there are examples."""
    tokenizer = learn_tokenizer(texts_of(examples, pairs), spec.vocab_size)
    model = untrained(spec, tokenizer, derive(seed, "weights"))
    parameters = sum(weight.numel() for weight in model.parameters())
    announce(parameters)
    figures = fine_tune(model, tokenizer, examples, spec, PaddedLayout(), seed, directory, checkpoint) if examples else {}
    save_model(model, tokenizer, directory, base_path="")
    return {"parameters": parameters, "vocabulary": len(tokenizer), "examples": len(examples), **figures}


def texts_of(examples: list[tuple[Prompt, str]], pairs: list[PreferencePair]) -> Iterator[str]:
    """Yield the texts that the tiny model's tokenizer is learned from, each with the space before a word."""
    yield from (f" {text}" for prompt, answer in examples[:TOKENIZER_EXAMPLES] for text in (prompt.text, answer))
    yield from (f" {turn['content']}" for pair in pairs for turn in pair.prompt.messages)
    yield from (f" {text}" for pair in pairs for text in (pair.chosen, pair.rejected))
