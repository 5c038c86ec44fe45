"""Both views arrive at a server of W&B, a loopback stand-in, through the command line."""

import json
import sys
from pathlib import Path

import pytest

from tests.dashboard.test_dashboard import run_of
from tests.loggers.test_wandb_online import ROOT, done
from tests.loggers.wandb_server import WandbServer

pytest.importorskip("wandb_workspaces")
STAGE = [sys.executable, str(ROOT / "scripts" / "dashboard.py")]


@pytest.mark.slow
def test_workspace_and_report_are_saved_and_their_addresses_printed(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    with WandbServer() as server:
        saved = done([*STAGE, f"source={run}", "entity=somebody", "project=films"], tmp_path, **server.environment)
        address = server.address
    assert saved.returncode == 0, saved.stdout + saved.stderr
    (workspace,), (report,) = server.asked("UpsertView2"), server.asked("upsertView")
    assert (workspace["projectName"], report["projectName"]) == ("films", "films")
    assert "gold/after" in workspace["spec"]
    grids = [block for block in json.loads(report["spec"])["blocks"] if block["type"] == "panel-grid"]
    assert {runs["project"]["name"] for grid in grids for runs in grid["metadata"]["runSets"]} == {"films"}
    assert saved.stdout.count(f"{address}/somebody/films") == 2


def test_without_a_key_it_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    refused = done([*STAGE, f"source={run_of(tmp_path)}"], tmp_path)
    assert refused.returncode == 2
    assert "no API key of W&B is configured" in refused.stderr
    assert "dry_run=true" in refused.stderr
