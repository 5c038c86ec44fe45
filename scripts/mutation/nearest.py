"""Which tests are nearest to a file: by how many imports lie between them."""

import ast
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path


def nearest_tests(root: Path, file: str, importers: Mapping[str, set[str]] | None = None) -> list[str]:
    """Return the test files that import a file, directly or through others, nearest first.

    Of equally near ones, the one that is named after the file comes first, then those in the directory of the same name, then the
    shorter ones.

    Args:
        root: the tree, with `dpo_lab` and `tests`.
        file: a file of the package, relative to the tree.
        importers: what `importers_of` returned of the tree, for many files.
    """
    importers = importers_of(root) if importers is None else importers
    distance, waiting = {file: 0}, deque([file])
    while waiting:
        one = waiting.popleft()
        for other in sorted(importers.get(one, ())):
            if other not in distance:
                distance[other] = distance[one] + 1
                waiting.append(other)
    tests = [other for other in distance if Path(other).name.startswith("test_")]
    part = Path(file).parent.name
    names = {f"test_{Path(file).stem}", f"test_{part}_{Path(file).stem}"}

    def order(test: str) -> tuple[int, bool, bool, int]:
        return distance[test], Path(test).stem not in names, Path(test).parent.name != part, (root / test).stat().st_size

    return sorted(tests, key=order)


def importers_of(root: Path) -> dict[str, set[str]]:
    """Return the files that import each file of a tree."""
    files = {str(path.relative_to(root)) for name in ("dpo_lab", "tests", "scripts") for path in (root / name).rglob("*.py")}
    importers: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for name in _imported(ast.parse((root / file).read_bytes())):
            path = name.replace(".", "/")
            for found in {f"{path}.py", f"{path}/__init__.py"} & files:
                importers[found].add(file)
    return importers


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
