"""Whether the Hugging Face Hub answers: asked once, so that a machine without a connection is told so within seconds.

The library asks for each file up to six times with growing pauses, half a minute in all, before it gives up.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

WITHIN_SECONDS = 3.0  # a server that answers later than this would not deliver gigabytes


class Probe:
    """One request to the Hub, made in a thread: looking up a name has no time limit otherwise."""

    def __init__(self, address: str) -> None:
        self.address, self.answered = address, False
        self._deadline = time.monotonic() + WITHIN_SECONDS
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # with the user's proxies and certificates

        try:
            get_session().head(self.address, timeout=WITHIN_SECONDS)
        except Exception:  # whatever the transport raises: no name, refused, no route, no certificate, no answer in time
            return
        self.answered = True  # with any status: even an error comes from a server

    def result(self) -> bool:
        """Return whether the Hub answered; wait for it until the deadline."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        return self.answered


_probe_of = cache(Probe)  # one for each address and process


def ask_hub() -> None:
    """Start asking whether the Hub answers, and return at once: `is_reachable` has the answer."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        _probe_of(constants.ENDPOINT)


def is_reachable() -> bool:
    """Return whether the Hub may be asked and answers; a first call waits for at most `WITHIN_SECONDS`."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _probe_of(constants.ENDPOINT).result()


@contextmanager
def cache_alone_if_unreachable() -> Iterator[None]:
    """Let the libraries read their caches alone for the block where the Hub does not answer, as HF_HUB_OFFLINE=1 would."""
    from huggingface_hub import constants

    settings: list[Any] = [constants, *([sys.modules["datasets"].config] if "datasets" in sys.modules else [])]
    before = [module.HF_HUB_OFFLINE for module in settings]
    if not is_reachable():
        for module in settings:
            module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(settings, before, strict=True):
            module.HF_HUB_OFFLINE = value
