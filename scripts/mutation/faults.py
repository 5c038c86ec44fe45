"""Every small fault that can be put into a source: one replaced piece of text each."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OPERATORS = ("comparison", "arithmetic", "constant", "statement", "argument", "item", "call")
"""What is changed: a comparison or logical word; a sign; a number or truth value; a statement or decorator, removed; two
arguments, swapped; an entry of a literal or a named argument, removed; a method call without arguments, removed."""


@dataclass(frozen=True)
class Fault:
    """One fault: a piece of a file's text and what replaces it."""

    file: str
    operator: str
    start: int
    """First byte of the piece."""
    end: int
    """Byte after the piece."""
    line: int
    """Line on which the piece begins, counted from 1."""
    before: str
    after: str

    def put_into(self, source: bytes) -> bytes:
        """Return the source with the fault in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def faults_of(file: str, source: bytes) -> list[Fault]:
    """Return every fault of a file that still compiles, in the order of the text.

    >>> [(fault.operator, fault.before, fault.after) for fault in faults_of("f.py", b"def f(x):\\n    return x + 1 < 2\\n")]
    [('comparison', 'x + 1 < 2', 'x + 1 <= 2'), ('arithmetic', 'x + 1', 'x - 1'), ('constant', '1', '2'), ('constant', '2', '3')]
    """
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    faults: dict[tuple[int, int, str], Fault] = {}
    for node, operator, after in _changes(tree):
        start, end = (starts[line - 1] + column for line, column in _span(node))
        fault = Fault(file, operator, start, end, node.lineno, source[start:end].decode(), after)  # type: ignore[attr-defined]
        if _compiles(fault.put_into(source)):
            faults.setdefault((start, end, after), fault)
    return sorted(faults.values(), key=lambda fault: (fault.start, -fault.end, fault.after))


def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    place = vars(node)
    return (place["lineno"], place["col_offset"]), (place["end_lineno"], place["end_col_offset"])


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "fault", "exec")
    except SyntaxError:
        return False
    return True


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield nodes with the operator and the text that stands in their place."""
    for node in _executed(tree):
        if isinstance(node, ast.expr):
            for operator, after in _of_expression(node):
                yield node, operator, after
        elif isinstance(node, ast.stmt) and (after := _instead_of(node)):
            yield node, "statement", after
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call):
                    yield decorator, "statement", "(lambda same: same)"


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that compute: no annotations, no docstrings, no messages of errors, no texts with places in them."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "exc", "cause") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _only_names(child):
                continue
            yield child
            yield from _executed(child)


def _only_names(node: ast.AST) -> bool:
    """Return whether a node is an import, or a block that only type checkers read."""
    checked = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return checked or isinstance(node, ast.Import | ast.ImportFrom)


def _of_expression(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield operator and new text of each change of an expression."""
    match node:
        case ast.Compare(left=left, ops=[first, *rest], comparators=others):
            yield "comparison", ast.unparse(ast.Compare(left, [COMPARED[type(first)](), *rest], others))
        case ast.BoolOp(op=op, values=values):
            yield "comparison", f"({ast.unparse(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "comparison", f"({ast.unparse(operand)})"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "arithmetic", f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in COMPUTED:
            changed = ast.unparse(ast.BinOp(left, COMPUTED[type(op)](), right))
            yield "arithmetic", changed if isinstance(op, ast.Add) else f"({changed})"
        case ast.Constant(value=value) if isinstance(value, bool | int | float):
            yield (
                "constant",
                repr(not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 2 or 1.0),
            )
        case ast.Call():
            yield from _of_call(node)
        case ast.Dict(keys=keys, values=values) if len(keys) > 1:
            for drop in range(len(keys)):
                yield "item", ast.unparse(ast.Dict(keys[:drop] + keys[drop + 1 :], values[:drop] + values[drop + 1 :]))
        case ast.List(elts=items) | ast.Set(elts=items) if len(items) > 1:
            for drop in range(len(items)):
                yield "item", ast.unparse(type(node)(items[:drop] + items[drop + 1 :]))


def _of_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    for first in range(len(node.args) - 1):
        if not _alike(*node.args[first : first + 2]):
            continue
        swapped = [*node.args]
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
        yield "argument", ast.unparse(ast.Call(node.func, swapped, node.keywords))
    for drop in range(len(node.keywords)):
        yield "item", ast.unparse(ast.Call(node.func, node.args, node.keywords[:drop] + node.keywords[drop + 1 :]))
    if isinstance(node.func, ast.Attribute) and not node.args and not isinstance(node.func.value, ast.Name):
        yield "call", f"({ast.unparse(node.func.value)})"


def _alike(one: ast.expr, other: ast.expr) -> bool:
    """Return whether two arguments can be mistaken for each other: two numbers, or two that are not constants."""
    numbers = [isinstance(argument, ast.Constant) and not isinstance(argument.value, str) for argument in (one, other)]
    texts = any(isinstance(argument, ast.Constant | ast.JoinedStr) for argument in (one, other))
    return all(numbers) or not (texts or isinstance(one, ast.Starred) or isinstance(other, ast.Starred))


def _instead_of(node: ast.stmt) -> str:
    """Return what stands where a statement is removed; nothing for one whose absence is not a small fault."""
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            return "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return "pass"
        case ast.With(items=[ast.withitem(optional_vars=None), *more], body=body):
            if more:
                return _indented(ast.With(more, body), node.col_offset)
            return _indented(ast.If(ast.Constant(value=True), body, []), node.col_offset)
    return ""


def _indented(node: ast.stmt, columns: int) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).replace("\n", "\n" + " " * columns)
