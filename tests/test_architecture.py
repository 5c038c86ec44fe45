"""The shape of the code: imports point down the layers, heavy packages have one home, files and functions stay small."""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dpo_lab"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
TREES = ("dpo_lab", "hydra_plugins", "scripts", "tests")
FILES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "train.py", *(each for name in TREES for each in (ROOT / name).rglob("*.py")))
)

BASE = (
    "amounts",
    "plain_data",
    "spelling",
    *("copying", "folding"),
    "components",
    *("conf_files", "drawn"),
    "records",
    "durable_files",
    "manifests",
    "damage",
    "own_files",
    "artifacts",
    "seeding",
    "progress",
    "continuing",
    "metrics",
    "figures",
    "environment",
    "call",
    *("run_directory", "naming"),
    "disk_use",
    "hub",
    "hub_connection",
    *("signals", "watching", "world"),
)
LAYERS: tuple[tuple[str, ...], ...] = (
    BASE,
    ("data", "models"),
    ("tokens",),
    ("layouts",),
    ("scoring",),
    ("losses", "reference", "sampling", "ranking"),
    ("evaluation",),
    ("loggers",),
    ("training",),
    ("alignment",),
    ("memory",),
    ("report",),
    ("comparison",),
    ("pipeline",),
    ("rules", "export", "publishing", "dashboard"),
    ("stages",),
    ("cli",),
    ("start",),
)
"""Lowest first; a part imports from itself and from lower layers only. Neighbours do not know each other, but in the base."""
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

HOMES = {
    "bitsandbytes": ("models/quant.py", "training/optim.py"),
    "datasets": ("data/",),
    "filelock": ("artifacts.py", "naming.py", "loggers/recorder.py", "cli/search_study.py"),
    "huggingface_hub": ("data/", "models/", "hub_connection.py", "publishing/upload.py"),
    "hydra": ("cli/",),
    "jinja2": ("models/tokenizer.py", "tokens/rendering.py", "tokens/template.py", "report/page.py"),
    "lightning": ("training/",),
    "llm_blender": ("ranking/",),
    "lm_eval": ("evaluation/harness/",),
    "matplotlib": ("report/svg.py", "comparison/charts.py"),
    "omegaconf": ("cli/",),
    "optuna": ("cli/",),
    "peft": ("models/adapter.py", "models/lora_linear.py", "export/merged.py"),
    "pyarrow": ("data/", "publishing/data_set.py"),
    "rich": ("progress.py",),
    "safetensors": ("models/", "export/", "ranking/", "reference/"),
    "tensorboard": ("loggers/tensorboard_files.py",),
    "tokenizers": ("models/", "ranking/"),
    "torch": (
        *("models/", "tokens/", "layouts/", "scoring/", "losses/", "reference/", "sampling/", "ranking/", "evaluation/"),
        *("loggers/", "training/", "memory/", "pipeline/", "rules/", "export/", "stages/"),
    ),
    "transformers": ("layouts/", "models/", "sampling/", "ranking/blender/", "memory/", "export/"),
    "wandb": ("loggers/wandb_run.py", "loggers/wandb_parts.py", "dashboard/views.py"),
    "wandb_workspaces": ("dashboard/views.py",),
}
"""Where each heavy package may be imported, at the top of a file or inside a function."""

MAX_FILE, MAX_FUNCTION, MAX_STAGE = 300, 60, 100
MAY_TAKE_IT_WHOLE = ("pipeline/rounds.py", "memory/check.py", "memory/changes.py")


def part_of(module: str) -> str:
    """Return the part that a file of the package belongs to.

    >>> part_of("losses/dpo.py"), part_of("cli/messages.py"), part_of("seeding.py")
    ('losses', 'cli', 'seeding')
    """
    return module.split("/")[0].removesuffix(".py")


def is_type_checking(test: ast.expr) -> bool:
    """Return whether a condition is TYPE_CHECKING."""
    return ast.unparse(test).rpartition(".")[2] == "TYPE_CHECKING"


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node below this one, without what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        below = child.orelse if isinstance(child, ast.If) and is_type_checking(child.test) else [child]
        for each in below:
            yield each
            yield from nodes_at_run_time(each)


def imports(source: str) -> Iterator[str]:
    """Yield the dotted name of everything that a source imports at run time, wherever the import stands.

    >>> sorted(imports("import torch.nn\\nfrom dpo_lab import seeding\\ndef f():\\n    from dpo_lab.world.parser import parse"))
    ['dpo_lab.seeding', 'dpo_lab.world.parser', 'torch.nn']
    """
    for node in nodes_at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            of_package = node.module == "dpo_lab"
            yield from (f"dpo_lab.{name.name}" for name in node.names) if of_package else (str(node.module),)


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return what a file of the package imports."""
    return frozenset(imports((PACKAGE / module).read_text(encoding="utf-8")))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return every node of a source; each file is parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def own_imports(module: str) -> frozenset[str]:
    """Return the files of the package that a file imports, inside functions and for type checkers too."""
    nodes = [node for node in nodes_of(PACKAGE / module) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names]
    calls = [ast.unparse(node) for node in nodes_of(PACKAGE / module) if isinstance(node, ast.Call)]
    names += [name for call in calls if "import_module(" in call for name in re.findall(r"dpo_lab[.\w]+", call)]
    return frozenset(files_named(*names)) - {module, "__init__.py"}


def files_named(*dotted: str) -> Iterator[str]:
    """Yield the files of the package that dotted names stand for.

    >>> list(files_named("dpo_lab.losses.dpo.DPOLoss", "dpo_lab.losses.dpo")), list(files_named("torch"))
    (['losses/dpo.py'], [])
    """
    for name in dotted:
        path = name.removeprefix("dpo_lab.").replace(".", "/")
        yield from (file for file in (f"{path}.py", f"{path}/__init__.py") if name.startswith("dpo_lab.") and file in MODULES)


def own_parts(module: str) -> set[str]:
    """Return the other parts of the package that a file imports, for type checkers too."""
    return {part_of(file) for file in own_imports(module)} - {part_of(module)}


def circles(imported: Mapping[str, Collection[str]]) -> list[set[str]]:
    """Return the sets of names that reach each other.

    >>> circles({"a": ["b"], "b": ["a", "c"], "c": []}) == [{"a", "b"}]
    True
    """

    def reached(name: str) -> set[str]:
        seen, waiting = set[str](), list(imported[name])
        while waiting:
            if (other := waiting.pop()) not in seen:
                seen.add(other)
                waiting += imported.get(other, ())
        return seen

    reach = {name: reached(name) for name in imported}
    rings = {frozenset({other for other in reach[name] if name in reach.get(other, ())}) for name in imported}
    return sorted((set(ring) for ring in rings if ring), key=sorted)


def test_every_part_has_a_layer() -> None:
    assert {part_of(module) for module in MODULES} - {"__init__"} == set(LEVEL)


def test_imports_point_down_the_layers() -> None:
    def allowed(part: str) -> set[str]:
        return {other for other in LEVEL if LEVEL[other] < LEVEL[part] or (part in BASE and other in BASE)}

    modules = [module for module in MODULES if module != "__init__.py"]
    assert {module: up for module in modules if (up := own_parts(module) - allowed(part_of(module)))} == {}


def test_no_file_imports_itself_through_others() -> None:
    assert circles({module: own_imports(module) for module in MODULES}) == []


def test_no_part_imports_itself_through_others() -> None:
    assert circles({part: set().union(*map(own_parts, files)) for part, files in groupby(MODULES, part_of)}) == []


def test_the_package_itself_imports_the_standard_library_only() -> None:
    assert imports_of("__init__.py") <= {"__future__", "os", "functools", "typing", "ast", "pathlib", "importlib"}


@pytest.mark.parametrize("package", sorted(HOMES))
def test_a_heavy_package_is_imported_in_its_home_only(package: str) -> None:
    users = {module for module in MODULES if package in {name.split(".")[0] for name in imports_of(module)}}
    assert {module for module in users if not module.startswith(HOMES[package])} == set()


def test_an_import_for_type_checkers_alone_is_exempt() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import numpy"
    assert set(imports(source)) == {"typing", "numpy"}


def test_a_file_has_at_most_300_lines() -> None:
    assert [file for file in FILES if len((ROOT / file).read_text(encoding="utf-8").splitlines()) > MAX_FILE] == []


def functions_that_take_it_whole(module: str, whole: Collection[str]) -> Iterator[str]:
    """Yield the functions of a file that have a parameter annotated with one of these classes, in quotes or in a union too."""
    for node in nodes_of(PACKAGE / module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            annotations = " ".join(ast.unparse(argument.annotation) for argument in arguments if argument.annotation)
            if set(re.findall(r"\w+", annotations)) & set(whole):
                yield node.name


def test_no_function_below_the_stages_takes_a_whole_stage_or_a_whole_alignment() -> None:
    """It takes the parts that it reads. Few files compose a run, or change one, and may take all of it."""
    whole = {"Alignment"}.union(*(classes_of(module) for module in MODULES if module.startswith("stages/")))
    takers = {
        module: sorted(functions_that_take_it_whole(module, whole))
        for module in MODULES
        if module not in MAY_TAKE_IT_WHOLE and not module.startswith(("stages/", "cli/"))
    }
    assert {module: names for module, names in takers.items() if names} == {}


def test_stages_holds_stages_only_each_in_100_lines() -> None:
    """A stage is one component with run(); what it needs beside that stands below stages/."""
    files = sorted((PACKAGE / "stages").glob("*.py"))
    assert {path.stem for path in files} - {"__init__"} <= {path.stem for path in (ROOT / "conf").glob("*.yaml")}
    assert {path.name: count for path in files if (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_STAGE} == {}


def test_a_function_has_at_most_60_lines() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [(file, node) for file in FILES for node in nodes_of(ROOT / file) if isinstance(node, kinds)]
    assert [(file, node.name) for file, node in functions if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION] == []


def test_no_file_is_a_drawer_for_leftovers() -> None:
    assert [file for file in FILES if Path(file).stem in ("utils", "util", "helpers", "common", "misc")] == []


OF_MODELS = ("models/spec.py", "models/quant.py", "models/adapter.py")
KINDS = ("data/", "evaluation/", "ranking/", "sampling/", "pipeline/on_policy.py", *OF_MODELS)
"""Where the classes stand of which a stage, a rule or a pipeline asks the role, and not which one it is."""


def classes_of(module: str) -> set[str]:
    """Return the names of the classes that a file of the package defines."""
    return {node.name for node in nodes_of(PACKAGE / module) if isinstance(node, ast.ClassDef)}


def classes_asked(module: str) -> set[str]:
    """Return the names of the classes that a file asks of an object, by isinstance, type(object) or match."""
    nodes = nodes_of(PACKAGE / module)
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    asked: list[ast.AST] = [call.args[1] for call in calls if getattr(call.func, "id", "") in ("isinstance", "issubclass")]
    asked += [node for node in nodes if isinstance(node, ast.Compare) and "type(" in ast.unparse(node)]
    asked += [node.cls for node in nodes if isinstance(node, ast.MatchClass)]
    return {word for node in asked for word in re.findall(r"\w+", ast.unparse(node))}


def test_what_a_part_is_stands_on_its_role_and_is_not_asked_of_its_class() -> None:
    kinds = set().union(*(classes_of(module) for module in MODULES if module.startswith(KINDS)))
    asking = [module for module in MODULES if module.startswith(("pipeline/", "rules/", "stages/"))]
    assert {module: asked for module in asking if (asked := classes_asked(module) & kinds)} == {}
