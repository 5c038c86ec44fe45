"""A cache for the libraries that read data sets, apart from the user's."""

from pathlib import Path

import pytest


@pytest.fixture
def library_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that `datasets` and the Hub's client keep their copies in, of the test's own."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
