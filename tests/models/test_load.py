"""A model on disk: what is made with it is made from it, whether it is loaded for that or was before."""

from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.models.load import ModelOnDisk
from tests.models.directories import model_directory

CPU = torch.device("cpu")


def test_an_artifact_made_with_a_model_that_was_loaded_before_names_it_as_its_parent_too(tmp_path: Path) -> None:
    def write(directory: Path) -> dict[str, Any]:
        model_directory(directory, "mistral")
        return {}

    base = Plan(tmp_path, "model", "base", {}).make(write)
    model = ModelOnDisk(str(base.path), base.id)

    def use(directory: Path) -> dict[str, Any]:
        return {"weights": len(list(model.loaded(CPU).model.parameters()))}

    made = [Plan(tmp_path, "evaluation", "answers", {"number": number}).make(use) for number in range(2)]
    assert [artifact.manifest["parents"] for artifact in made] == [[base.id]] * 2
    assert all(Artifact.open(artifact.path) for artifact in made)
