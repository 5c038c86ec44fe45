"""A Hub that does not answer is noticed once, within seconds; then the caches alone are read."""

import socket
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from dpo_lab import hub_connection
from dpo_lab.components import ConfigError
from dpo_lab.data.hub import DataSet
from dpo_lab.data.hub_messages import Origin
from dpo_lab.data.problems import DataError
from dpo_lab.hub_connection import ask_hub, cache_alone_if_unreachable, is_reachable
from dpo_lab.models.hub import checked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the addresses that were asked; the caches are empty."""
    addresses: list[str] = []

    class Counted(hub_connection.Probe):
        def __init__(self, address: str) -> None:
            addresses.append(address)
            super().__init__(address)

    monkeypatch.setattr(hub_connection, "_probe_of", cache(Counted))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return addresses


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Hub be an address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.mark.usefixtures("closed")
def test_one_probe_serves_model_and_data(asked: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"the Hub does not answer\. .*then model\.path=DIR\. HF_HUB_OFFLINE=1 skips asking"):
        checked("owner/model", "1" * 40)
    with pytest.raises(DataError, match=r"the Hub does not answer\. .*then data\.path=DIR\. HF_HUB_OFFLINE=1 skips asking"):
        DataSet(Origin(path="owner/pairs"))
    assert len(asked) == 1
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.usefixtures("closed")
def test_the_libraries_are_offline_only_inside_the_block(asked: list[str]) -> None:
    import datasets

    with cache_alone_if_unreachable():
        assert constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_server_that_never_answers_is_given_up_at_the_deadline(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_connection, "WITHIN_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections are taken and nothing is sent
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not is_reachable()


def test_a_name_whose_lookup_hangs_is_given_up_at_the_deadline(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(hub_connection, "WITHIN_SECONDS", 0.1)
    monkeypatch.setattr(hub_connection.Probe, "_ask", lambda probe: released.wait())
    assert not is_reachable()
    released.set()


class Refuses(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(503)
        self.end_headers()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("busy")
def test_a_hub_that_answers_with_an_error_is_reachable(asked: list[str]) -> None:
    ask_hub()
    assert is_reachable()
    with cache_alone_if_unreachable():
        assert not constants.HF_HUB_OFFLINE
    assert len(asked) == 1


def test_offline_by_choice_asks_nobody(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ask_hub()
    assert not is_reachable()
    assert asked == []
