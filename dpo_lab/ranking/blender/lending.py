"""What llm-blender 0.0.2 needs in order to load on transformers 5, lent to it for the time of loading and taken back.

The package was last changed in April 2024. It imports a constant that transformers 5 dropped (TRANSFORMERS_CACHE):
https://github.com/yuchenlin/LLM-Blender/issues/33, open; a release after 0.0.2 that closes it ends the lending. It takes
AutoTokenizer's tokenizer: transformers 5 builds DeBERTa's without the file's normaliser (NFKC), so that an ellipsis or a
full-width digit is unknown and scores change without a word. And it downloads a backbone whose weights it then overwrites.
"""

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

import torch

PACKAGE = "llm_blender"
CACHE = "TRANSFORMERS_CACHE"
_ABSENT = object()


@contextmanager
def lent(tokenizer: Callable[[], Any], encoder: Callable[[], Any]) -> Iterator[Any]:
    """Import llm-blender and let it build its ranker from a tokenizer and an encoder of ours in the block; yield the package.

    When the block ends, also by an exception, everything is as before: the attributes of transformers and of the package, torch's
    random numbers, the handlers of the root logger, standard output and the filters of warnings. Modules of an import that failed
    are forgotten, so that the next attempt does not find half of them.

    Args:
        tokenizer: returns what its `build_tokenizer` is to return.
        encoder: returns what its `build_pretrained_model` is to return.
    """
    hub = import_module("transformers.utils.hub")
    with ExitStack() as stack:
        stack.enter_context(_silent())
        stack.enter_context(torch.random.fork_rng(devices=[]))  # an encoder starts random before its weights are read
        if not hasattr(hub, CACHE):
            stack.enter_context(attribute(hub, CACHE, ""))  # read at import; what is loaded is in a directory
        package = _imported()
        building = import_module(f"{PACKAGE}.blender.blender_utils")
        models = import_module(f"{PACKAGE}.pair_ranker.model_util")
        stack.enter_context(attribute(building, "build_tokenizer", lambda *_, **__: tokenizer()))
        stack.enter_context(attribute(models, "build_pretrained_model", lambda *_, **__: encoder()))
        yield package


@contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module or class for the block; one that it did not have itself is removed again."""
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what the package prints, logs and warns of from the screen; its calls of `logging` would install a handler."""
    root, nothing = logging.getLogger(), logging.NullHandler()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = [nothing]
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _imported() -> Any:
    known = set(sys.modules)
    try:
        return import_module(PACKAGE)
    except BaseException:
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE and name not in known]:
            del sys.modules[name]
        raise
