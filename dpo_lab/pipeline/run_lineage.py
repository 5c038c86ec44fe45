"""The artifacts that a finished run was made from, found beside it or where they were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError
from dpo_lab.damage import examine
from dpo_lab.run_directory import RunDirectory


def finished_run(directory: Path, key: str) -> dict[str, Any]:
    """Return what a finished run says of itself.

    Args:
        key: of the setting that names it, for messages.

    Raises:
        ConfigError: if it is missing, unfinished or damaged.
    """
    said = f"{key}: {directory}"
    if not directory.is_dir():
        raise ConfigError(
            f"{said} is not a directory (in {Path.cwd()}). Give the directories of finished runs: outputs/train/NAME."
        )
    if not RunDirectory(directory).is_run:
        raise ConfigError(
            f"{said} is not a run of train: it has no run.json. Give the directories of finished runs: outputs/train/NAME."
        )
    if damage := examine(directory).damage:
        raise ConfigError(f"{said} is damaged ({damage}). Run the training again: it makes that part again.")
    if Artifact.open(directory) is None:
        raise ConfigError(f"{said} is unfinished: it has no manifest.json. Run the same command again, which resumes it.")
    return RunDirectory(directory).run()


def opened_part(directory: Path, entry: Mapping[str, Any]) -> Artifact | None:
    """Return an artifact of a run's lineage, beside the run or where it was when the run was made; None if it is gone."""
    beside = directory.resolve().parents[1] / entry["kind"] / entry["name"]
    found = (Artifact.open(path) for path in (beside, Path(entry["path"])))
    return next((artifact for artifact in found if artifact and artifact.id == entry["id"]), None)
