"""DPO Lab: sample, rank, pair, train with Direct Preference Optimization, evaluate, repeat.

`from dpo_lab import Train, DPOLoss` gives the classes behind the options of conf/; public.pyi lists them. A class is
imported when it is first asked for, so that the command line starts without torch. In a wheel the list is `__init__.pyi`,
for type checkers; here that would make the whole package one circle of imports for them.
"""

import os
from functools import lru_cache
from typing import Any

__version__ = "0.1.0"

# How long a thread of torch's OpenMP spins at a barrier before it sleeps; read when torch loads. Forty steps of the tiny
# model on two cores, default (300000) against 1000: 1.43 s and 1.60 s on an idle machine, 13.0 s and 5.3 s beside three
# busy processes.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


@lru_cache(maxsize=None)  # noqa: UP033
def _homes() -> "dict[str, str]":  # in quotes: a Python from 3.6 on has to get as far as dpo_lab.start
    """Return the module of each public class, as public.pyi has them."""
    import ast
    from pathlib import Path

    places = (Path(__file__).with_name("public.pyi"), Path(__file__).with_suffix(".pyi"))  # the latter in a wheel
    stub = ast.parse(next(path for path in places if path.exists()).read_text(encoding="utf-8"))
    lines = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in lines for alias in line.names}


def __getattr__(name: str) -> Any:
    """Import a public class when it is first asked for (PEP 562)."""
    if name.startswith("_") or name not in _homes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_homes()[name]), name)


def __dir__() -> "list[str]":
    """Return the public names, for completion."""
    return sorted({*globals(), *_homes()})
