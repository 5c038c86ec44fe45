"""What offline files of W&B say of a run's parts: digests of all, and files of the policy only if they were asked for."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.loggers.wandb_run import WandbLogger
from tests.loggers.test_logger_wandb import SUMMARY, of_kind, recorder, records, rows
from tests.loggers.test_wandb_online import LINEAGE


def finished(directory: Path, sent: Any, lineage: list[dict[str, Any]] = LINEAGE) -> list[dict[str, Any]]:
    """Return the records of a finished run."""
    with recorder(directory, WandbLogger(mode="offline", artifacts=sent)) as record:
        record.tell(rows(1)[0])
        record.finish(SUMMARY, (), lineage)
    return records(directory)


def logged(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the files of artifacts by kind."""
    return {each["type"]: [entry["path"] for entry in each["manifest"]["contents"]] for each in of_kind("artifact", found)}


def test_offline_the_digests_of_data_ranking_and_policy_stand_in_the_configuration(tmp_path: Path) -> None:
    found = finished(tmp_path / "tiny", "lineage")
    (update,) = [each["update"]["lineage"] for each in of_kind("config", found) if "lineage" in each["update"]]
    assert update == {
        "data": {"t-films-round1": "da" * 32},
        "tokens": {"t-films-round1": "cd" * 32},
        "ranking": {"gold-films": "12" * 32},
        "policy": {"tiny-dpo-films-round1": "34" * 32},
    }
    assert logged(found) == {"policy": ["part.json"]}


def test_files_that_wait_to_be_sent_stay_below_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "elsewhere"))
    finished(tmp_path / "tiny", "lineage")
    assert list((tmp_path / "tiny").rglob("staging/*"))
    assert not [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]


def test_the_weights_of_the_last_policy_are_sent_only_if_that_was_asked_for_and_its_answers_never(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json", "manifest.json", "samples.jsonl", "metrics.jsonl"):
        (policy / name).write_text("{}")
    lineage = [*LINEAGE, {**LINEAGE[-1], "name": "tiny-dpo-films-round2-56565656", "id": "56" * 32, "path": str(policy)}]
    weights = ["adapter_config.json", "adapter_model.safetensors", "part.json"]
    assert logged(finished(tmp_path / "asked", "policy", lineage))["policy"] == weights
    assert logged(finished(tmp_path / "usual", "lineage", lineage))["policy"] == ["part.json"]
    assert logged(finished(tmp_path / "none", "none", lineage)) == {}


def test_asking_for_the_weights_sends_a_finished_run_again() -> None:
    assert WandbLogger(mode="offline", artifacts="policy").destination() != WandbLogger(mode="offline").destination()
