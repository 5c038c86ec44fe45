"""The models that the stage `evaluate` measures, of a run, an adapter, a directory or the Hub, and what each came from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError
from dpo_lab.damage import examine
from dpo_lab.models.directory import ADAPTER_CONFIG, base_of
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import Quant
from dpo_lab.models.spec import ModelSpec, PretrainedModel
from dpo_lab.models.storage import Storage, id_of, storage_from, storage_of
from dpo_lab.pipeline.base_model import pretrained_model
from dpo_lab.pipeline.real_model import refuse_unusable_model
from dpo_lab.pipeline.run_lineage import finished_run, opened_part
from dpo_lab.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A model to measure."""

    name: str
    """In reports: the last part of its path."""
    path: str
    policy: ModelOnDisk
    before: ModelOnDisk | None
    """What it was trained from; None where nothing says so."""
    reference: ModelOnDisk | None = None
    """The reference of its last round, where that is another model."""
    is_start: bool = False
    """Whether it was not asked for, and stands there as what others were trained from."""

    @property
    def is_trained(self) -> bool:
        """Whether it is another model than the one before."""
        return self.before is not None and self.before.id != self.policy.id


@dataclass(frozen=True, kw_only=True)
class Finder:
    """How models are found and held."""

    outputs: Path
    quant: Quant
    precision: Precision
    device: torch.device
    key: str = "models"
    """Of the setting that names them, for messages."""

    def found(self, names: Sequence[str], spec: ModelSpec | None, base: str | None) -> list[Evaluated]:
        """Return the models in order.

        Args:
            names: directories of runs, adapters and models, or Hub ids.
            spec: one more model, in front.
            base: what all are compared with; None: what each was trained from.

        Raises:
            ConfigError: for a model that is missing, unfinished, not whole or named twice.
        """
        own = replace(self, key="base").at(base).policy if base else None
        models = [self.of(spec)] if spec else []
        models += [self.at(name) for name in names]
        models = [replace(model, before=own, reference=None) if own else model for model in models]
        starts = {model.before.id for model in models if model.before}
        models = [replace(model, before=model.policy) if model.policy.id in starts else model for model in models]
        if len({model.policy.id for model in models}) < len(models):
            twice = next(model for model in models if [one.policy.id for one in models].count(model.policy.id) > 1)
            raise ConfigError(f"{self.key}: {twice.path} stands there twice. Leave one of them out.")
        models += starts_of(models)
        return [
            replace(each, name=name) for each, name in zip(models, short_names([model.path for model in models]), strict=True)
        ]

    def of(self, spec: ModelSpec) -> Evaluated:
        """Return a model of the configuration."""
        if spec.pretrained is None:
            raise ConfigError(
                f"model={spec.label} is made by a training for its data. Name the run of that training, "
                "models=[outputs/train/RUN], or a pretrained model: model=smollm2_135m."
            )
        refuse_unusable_model(spec, 0)
        return self._given(spec.pretrained, storage_of(spec, self.precision, self.device))

    def at(self, name: str) -> Evaluated:
        """Return the model of a directory or a Hub id."""
        directory = Path(name)
        if RunDirectory(directory).is_run:
            return self._of_run(directory)
        if damage := examine(directory).damage:
            raise ConfigError(f"{self.key}: {name} is damaged ({damage}). Make it again, or give another one.")
        made = Artifact.open(directory)
        if made is None and (directory / "checkpoints").exists():
            raise ConfigError(f"{self.key}: {name} is an unfinished training. Run it to its end first.")
        if made and made.manifest["kind"] == "policy":
            before = self._at_path(str(made.facts["held"]["base"]), storage_from(made.facts["held"]))
            return Evaluated(name=name, path=name, policy=before.trained(name, made.id), before=before)
        spec = PretrainedModel(path=name, licence="unknown", quant=self.quant)
        try:
            refuse_unusable_model(spec, 0)
        except ConfigError as error:
            raise ConfigError(self._told(str(error))) from error
        return self._given(spec, self._storage())

    def _told(self, message: str) -> str:
        """Return a message about model.path with the setting that names the models here."""
        several = self.key == "models"
        for typed, here in (("=DIR", "=[DIR]" if several else "=DIR"), ("=", ": "), ("", "")):
            message = message.replace(f"model.path{typed}", f"{self.key}{here}")
        return message

    def _storage(self) -> Storage:
        """Return how given weights are held: in half precision where the pass is computed in it, as a frozen base is."""
        half = self.precision.resolved(self.device) != "32-true"
        dtype = torch.bfloat16 if half else torch.float32
        return Storage(self.quant, dtype, adapter_dtype=self.precision.weights)

    def _given(self, spec: PretrainedModel, storage: Storage) -> Evaluated:
        policy = pretrained_model(replace(spec, path=placed(spec.path)), root=self.outputs, storage=storage)
        is_adapter = (Path(spec.path) / ADAPTER_CONFIG).exists()
        before = self._at_path(base_of(spec.path), replace(storage, revision=spec.revision)) if is_adapter else None
        return Evaluated(name=spec.label, path=spec.path, policy=policy, before=before)

    def _at_path(self, path: str, storage: Storage) -> ModelOnDisk:
        made = Artifact.open(Path(path))
        if made and made.manifest["kind"] == "model":
            return ModelOnDisk(path, id_of(made.id, storage), storage)
        weights = PretrainedModel(path=placed(path), revision=storage.revision, licence="unknown")
        return pretrained_model(weights, root=self.outputs, storage=storage)

    def _of_run(self, directory: Path) -> Evaluated:
        run = finished_run(directory, self.key)
        policies = [artifact for artifact in run["lineage"] if artifact["kind"] == "policy"]
        made = self._part(directory, policies[-1])
        storage = storage_from(made.facts["held"])
        before = self._start_of(directory, run, made, storage)
        identity = made.manifest["content"]["reference"][0]
        others = [policy for policy in policies if policy["id"] == identity]
        other = self._part(directory, others[0]) if others else None
        return Evaluated(
            name=directory.resolve().name,
            path=str(directory),
            policy=before.trained(str(made.path), made.id),
            before=before,
            reference=before.trained(str(other.path), other.id) if other else None,
        )

    def _start_of(self, directory: Path, run: dict[str, Any], policy: Artifact, storage: Storage) -> ModelOnDisk:
        """Return the model before all rounds: the one that was made for the run, or the given one."""
        if made := next((artifact for artifact in run["lineage"] if artifact["kind"] == "model"), None):
            found = self._part(directory, made)
            return ModelOnDisk(str(found.path), id_of(found.id, storage), storage)
        asked = str((RunDirectory(directory).config().get("model") or {}).get("path") or "")
        path = asked if (Path(asked) / ADAPTER_CONFIG).is_file() else str(policy.facts["held"]["base"])
        return self._at_path(path, storage)

    def _part(self, directory: Path, entry: dict[str, Any]) -> Artifact:
        found = opened_part(directory, entry)
        if found is None:
            raise ConfigError(
                f"{self.key}: the {entry['kind']} of {directory}, {entry['path']}, is gone. Run the training again."
            )
        return found


def starts_of(models: Sequence[Evaluated]) -> list[Evaluated]:
    """Return the models that some were trained from, each once, without those that are measured anyway."""
    measured = {model.policy.id for model in models}
    starts = {model.before.id: model.before for model in models if model.before and model.before.id not in measured}
    return [Evaluated(name=start.path, path=start.path, policy=start, before=start, is_start=True) for start in starts.values()]


def placed(path: str) -> str:
    """Return a directory's whole path, by which a model has one id however it is named; a Hub id as it is."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, with what stands before it where two would have the same name.

    >>> short_names(["a/model", "b/model", "c/other"])
    ['a/model', 'b/model', 'other']
    """
    parts = [Path(path).resolve().parts if Path(path).exists() else Path(path).parts for path in paths]
    names = [part[-1] for part in parts]
    deeper = 1
    while len(set(names)) < len(names) and deeper < max(map(len, parts)):
        deeper += 1
        twice = {name for name in names if names.count(name) > 1}
        names = ["/".join(part[-deeper:]) if name in twice else name for name, part in zip(names, parts, strict=True)]
    return names
