"""Where the files of conf/ are."""

from pathlib import Path


def find_conf() -> Path:
    """Return the directory of the configuration: the package's own copy in a wheel, else the checkout's.

    `pkg://` would need conf/__init__.py, and an editable install may have left an old copy in site-packages.
    """
    here = Path(__file__).resolve().parent
    return next((path for path in (here / "conf", here.parent / "conf") if (path / "groups.yaml").is_file()), here / "conf")


CONF = find_conf()
