"""What a user-written strategy may say: numbers, conditions, local names, a few functions, and loops that end.

A function is read, never run: its syntax tree is checked and rewritten into one over pointers, in which every number is
a float64. Nothing in it can allocate, raise, call out or go on for ever.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from headrace.errors import StrategyError

FIELDS = (
    "value_cpm",
    "multiplier",
    "paced_cpm",
    "shaded_cpm",
    "floor_cpm",
    "highest_cpm",
    "first_price",
    "budget_left",
    "time_left",
)
"""What a strategy may ask of its first argument, in the order of `headrace.kernels.price.N_ASKED`."""
MAX_PARAMETERS = 8
MAX_TURNS = 64
"""Of a loop; loops within loops multiply."""
MAX_NODES = 1_000
"""Of a function's syntax tree; some hundred lines."""

FUNCTIONS = {"abs": (1, 1), "min": (2, 8), "max": (2, 8)}
MATH = {
    "ceil": 1,
    "cos": 1,
    "erf": 1,
    "exp": 1,
    "expm1": 1,
    "fabs": 1,
    "floor": 1,
    "hypot": 2,
    "log": 1,
    "log10": 1,
    "log1p": 1,
    "log2": 1,
    "pow": 2,
    "sin": 1,
    "sqrt": 1,
    "tan": 1,
    "tanh": 1,
}
"""Functions and the arguments that they take."""
CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf}

_RESERVED = {"math", "range", *FUNCTIONS}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_ALLOWED = "arithmetic, comparisons, if, for … in range(n), local names, math functions, min, max and abs"

NUMBER, CONDITION = "a number", "a condition"
Kinds = dict[str, str]
"""What local names hold where all ways lead that come here."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A checked function.

    parameters : names and defaults.   fields : what it reads of its first argument.
    tree : a module with one function of (_ask, _parameters, _edges, _win_rate, _n_edges).
    """

    name: str
    parameters: dict[str, float]
    fields: frozenset[str]
    tree: ast.Module


def parse_strategy(source: str, name: str, where: str, first_line: int = 1) -> Parsed:
    """Check the function ``name`` of a file's text.

    where : the file, for messages.   first_line : the number of the text's first line in it.

    Raises StrategyError that names the line and what stands there.
    """
    try:
        tree = ast.parse(source)
        ast.increment_lineno(tree, first_line - 1)
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        if len(found) != 1 or not any(_is_strategy(decorator) for decorator in found[0].decorator_list):
            got = f"{len(found)} of that name" if len(found) != 1 else f"{name}, which is under none"
            raise StrategyError(f"{where}: {name}", got, "one function under @headrace.strategy")
        return _Reader(where).function(found[0])
    except SyntaxError as error:
        raise StrategyError(f"{where}, line {(error.lineno or 1) + first_line - 1}", error.msg, "Python") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise StrategyError(f"{where}: {name}", str(error), "Python that can be read") from None


def _is_strategy(decorator: ast.expr) -> bool:
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name == "strategy"


class _Reader:
    """Reads one function; methods return the rewritten tree."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._fields: set[str] = set()
        self._ask = ""

    def function(self, node: ast.FunctionDef) -> Parsed:
        size = sum(1 for _ in ast.walk(node))
        if size > MAX_NODES:
            self._refuse(node, f"{size} parts", f"at most {MAX_NODES}")
        parameters = self._parameters(node)
        taken: list[ast.stmt] = [
            ast.Assign([ast.Name(name, ast.Store())], _entry("_parameters", row)) for row, name in enumerate(parameters)
        ]
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        written, after = self._block(body, dict.fromkeys(parameters, NUMBER), 1)
        if after is not None:
            self._refuse(node, "a way to the end without return", "a number returned on every way")
        names = ("_ask", "_parameters", "_edges", "_win_rate", "_n_edges")
        arguments = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
        made: Any = ast.FunctionDef(node.name, arguments, [*taken, *written], [])
        made.type_params = []
        tree = ast.fix_missing_locations(ast.Module([ast.copy_location(made, node)], []))
        return Parsed(node.name, parameters, frozenset(self._fields), tree)

    def _parameters(self, node: ast.FunctionDef) -> dict[str, float]:
        its = node.args
        plain = [*its.posonlyargs, *its.args]
        if not plain or its.vararg or its.kwarg or len(plain) - 1 != len(its.defaults):
            self._refuse(node, ast.unparse(its), "(ask, name=number, …)", "each parameter has a default")
        self._ask = plain[0].arg
        named = [*plain[1:], *its.kwonlyargs]
        if len(named) > MAX_PARAMETERS:
            self._refuse(node, f"{len(named)} parameters", f"at most {MAX_PARAMETERS}")
        for argument in (plain[0], *named):
            self._check_name(argument, argument.arg)
        return {
            argument.arg: self._default(argument, default)
            for argument, default in zip(named, [*its.defaults, *its.kw_defaults], strict=True)
        }

    def _default(self, argument: ast.arg, default: ast.expr | None) -> float:
        if isinstance(default, ast.UnaryOp) and isinstance(default.op, ast.USub):
            return -self._finite(argument, default.operand)
        return self._finite(argument, default)

    def _finite(self, node: ast.expr | ast.arg, number: ast.expr | None) -> float:
        value = number.value if isinstance(number, ast.Constant) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            expected = "a finite number" if isinstance(node, ast.expr) else "a number as each parameter's default"
            self._refuse(node, number or node, expected)
        return float(value)

    # -- statements

    def _block(self, body: Sequence[ast.stmt], kinds: Kinds, turns: int) -> tuple[list[ast.stmt], Kinds | None]:
        """The statements, and what holds after them; None where nothing comes after."""
        written: list[ast.stmt] = []
        now: Kinds | None = kinds
        for statement in body:
            if now is None:
                self._refuse(statement, statement, "nothing where no way leads")
            read = _STATEMENTS.get(type(statement))
            if read is None:
                self._refuse(statement, statement, _ALLOWED)
            made, now = read(self, statement, now, turns)
            written.extend(ast.copy_location(each, statement) for each in made)
        return written, now

    def _return(self, node: ast.Return, kinds: Kinds, _turns: int) -> tuple[list[ast.stmt], None]:
        if node.value is None:
            self._refuse(node, node, "a number returned")
        return [ast.Return(self._number(node.value, kinds))], None

    def _leave(self, node: ast.stmt, _kinds: Kinds, _turns: int) -> tuple[list[ast.stmt], None]:
        return [node], None

    def _assign(self, node: ast.Assign, kinds: Kinds, _turns: int) -> tuple[list[ast.stmt], Kinds]:
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Name):
            self._refuse(node, node, "one local name on the left")
        value, kind = self._expression(node.value, kinds)
        return [ast.Assign([target], value)], self._named(target, target.id, kind, kinds)

    def _augment(self, node: ast.AugAssign, kinds: Kinds, _turns: int) -> tuple[list[ast.stmt], Kinds]:
        if not isinstance(node.target, ast.Name) or not isinstance(node.op, _ARITHMETIC):
            self._refuse(node, node, "arithmetic on a local name")
        before = self._number(ast.copy_location(ast.Name(node.target.id, ast.Load()), node), kinds)
        value = ast.BinOp(before, node.op, self._number(node.value, kinds))
        return [ast.Assign([node.target], value)], kinds

    def _if(self, node: ast.If, kinds: Kinds, turns: int) -> tuple[list[ast.stmt], Kinds | None]:
        test = self._condition(node.test, kinds)
        body, after_body = self._block(node.body, kinds, turns)
        other, after_other = self._block(node.orelse, kinds, turns)
        made: list[ast.stmt] = [ast.If(test, body, other)]
        if after_body is None or after_other is None:
            return made, after_other if after_body is None else after_body
        for name in after_body.keys() & after_other.keys():
            if after_body[name] != after_other[name]:
                self._refuse(node, f"{name}, {after_body[name]} or {after_other[name]}", "one or the other")
        return made, {name: kind for name, kind in after_body.items() if name in after_other}

    def _for(self, node: ast.For, kinds: Kinds, turns: int) -> tuple[list[ast.stmt], Kinds]:
        wanted = f"for NAME in range(n) with a whole number n from 1 to {MAX_TURNS}, loops within loops together"
        n = _turns_of(node.iter)
        if not 1 <= n * turns <= MAX_TURNS or node.orelse or not isinstance(node.target, ast.Name):
            self._refuse(node, f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}", wanted)
        inside = self._named(node.target, node.target.id, NUMBER, kinds)
        body, _ = self._block(node.body, inside, turns * n)
        counter = f"_{node.target.id}"
        number = ast.Assign([node.target], ast.Call(ast.Name("float", ast.Load()), [ast.Name(counter, ast.Load())], []))
        return [ast.For(ast.Name(counter, ast.Store()), node.iter, [number, *body], [])], kinds

    # -- expressions

    def _number(self, node: ast.expr, kinds: Kinds) -> ast.expr:
        return self._of_kind(node, NUMBER, kinds)

    def _condition(self, node: ast.expr, kinds: Kinds) -> ast.expr:
        return self._of_kind(node, CONDITION, kinds)

    def _of_kind(self, node: ast.expr, wanted: str, kinds: Kinds) -> ast.expr:
        made, kind = self._expression(node, kinds)
        if kind != wanted:
            self._refuse(node, node, wanted)
        return made

    def _expression(self, node: ast.expr, kinds: Kinds) -> tuple[ast.expr, str]:
        read = _EXPRESSIONS.get(type(node))
        if read is None:
            self._refuse(node, node, _ALLOWED)
        made, kind = read(self, node, kinds)
        return ast.copy_location(made, node), kind

    def _constant(self, node: ast.Constant, _kinds: Kinds) -> tuple[ast.expr, str]:
        return ast.Constant(self._finite(node, node)), NUMBER

    def _name(self, node: ast.Name, kinds: Kinds) -> tuple[ast.expr, str]:
        if node.id not in kinds:
            hint = "what comes from outside is a parameter"
            self._refuse(node, node, f"a name that has a value on every way here ({', '.join(kinds) or 'none'})", hint)
        return node, kinds[node.id]

    def _attribute(self, node: ast.Attribute, _kinds: Kinds) -> tuple[ast.expr, str]:
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        if of == "math" and node.attr in CONSTANTS:
            return ast.Constant(CONSTANTS[node.attr]), NUMBER
        if of != self._ask or node.attr not in FIELDS:
            self._refuse(node, node, f"a field of {self._ask}: {', '.join(FIELDS)}")
        self._fields.add(node.attr)
        return _entry("_ask", FIELDS.index(node.attr)), NUMBER

    def _unary(self, node: ast.UnaryOp, kinds: Kinds) -> tuple[ast.expr, str]:
        if isinstance(node.op, ast.Invert):
            self._refuse(node, node, _ALLOWED)
        kind = CONDITION if isinstance(node.op, ast.Not) else NUMBER
        return ast.UnaryOp(node.op, self._of_kind(node.operand, kind, kinds)), kind

    def _binary(self, node: ast.BinOp, kinds: Kinds) -> tuple[ast.expr, str]:
        if not isinstance(node.op, _ARITHMETIC):
            self._refuse(node, node, _ALLOWED)
        return ast.BinOp(self._number(node.left, kinds), node.op, self._number(node.right, kinds)), NUMBER

    def _boolean(self, node: ast.BoolOp, kinds: Kinds) -> tuple[ast.expr, str]:
        return ast.BoolOp(node.op, [self._condition(value, kinds) for value in node.values]), CONDITION

    def _compare(self, node: ast.Compare, kinds: Kinds) -> tuple[ast.expr, str]:
        if not all(isinstance(op, _COMPARISONS) for op in node.ops):
            self._refuse(node, node, "< <= > >= == or !=")
        sides = [self._number(side, kinds) for side in (node.left, *node.comparators)]
        return ast.Compare(sides[0], node.ops, sides[1:]), CONDITION

    def _either(self, node: ast.IfExp, kinds: Kinds) -> tuple[ast.expr, str]:
        body, kind = self._expression(node.body, kinds)
        return ast.IfExp(self._condition(node.test, kinds), body, self._of_kind(node.orelse, kind, kinds)), kind

    def _call(self, node: ast.Call, kinds: Kinds) -> tuple[ast.expr, str]:
        written = ast.unparse(node.func)
        if written == f"{self._ask}.win_rate":
            least, most, target = 1, 1, "_win_rate_at"
            tables = [ast.parse(f"_carray({name}, (_n_edges,))", mode="eval").body for name in ("_edges", "_win_rate")]
        elif written in FUNCTIONS:
            (least, most), target, tables = FUNCTIONS[written], written, []
        elif written.startswith("math.") and written[5:] in MATH:
            least, target, tables = MATH[written[5:]], f"_{written[5:]}", []
            most = least
        else:
            known = ["min", "max", "abs", f"{self._ask}.win_rate", *(f"math.{name}" for name in MATH)]
            self._refuse(node, node.func, ", ".join(known))
        if node.keywords or not least <= len(node.args) <= most:
            self._refuse(node, node, f"{least} numbers" if least == most else f"{least} to {most} numbers")
        arguments = [self._number(each, kinds) for each in node.args]
        return ast.Call(ast.Name(target, ast.Load()), [*arguments, *tables], []), NUMBER

    # -- names and refusals

    def _named(self, node: ast.expr, name: str, kind: str, kinds: Kinds) -> Kinds:
        self._check_name(node, name)
        if kinds.get(name, kind) != kind:
            self._refuse(node, f"{name}, {kind}", f"{name} to stay {kinds[name]}")
        return {**kinds, name: kind}

    def _check_name(self, node: ast.expr | ast.arg, name: str) -> None:
        if name.startswith("_") or name in _RESERVED or (name == self._ask and not isinstance(node, ast.arg)):
            self._refuse(node, name, "a name of your own, without _ in front", f"not {', '.join(sorted(_RESERVED))}")

    def _refuse(self, node: ast.AST, got: ast.AST | str, expected: str, hint: str = "") -> NoReturn:
        place = f"{self._where}, line {getattr(node, 'lineno', 1)}"
        if isinstance(got, str):
            raise StrategyError(place, got, expected, hint)
        word = _WORDS.get(type(got))
        text = ast.unparse(got).partition("\n")[0]
        raise StrategyError(f"{place}: {word}" if word else place, text, expected, hint)


def _entry(table: str, row: int) -> ast.expr:
    return ast.Subscript(ast.Name(table, ast.Load()), ast.Constant(row), ast.Load())


def _turns_of(call: ast.expr) -> int:
    """n of range(n), 0 where it is anything else."""
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "range" or len(call.args) != 1 or call.keywords:
        return 0
    n = call.args[0].value if isinstance(call.args[0], ast.Constant) else 0
    return n if type(n) is int else 0


_STATEMENTS: dict[type[ast.stmt], Callable[..., tuple[list[ast.stmt], Kinds | None]]] = {
    ast.Assign: _Reader._assign,
    ast.AugAssign: _Reader._augment,
    ast.Break: _Reader._leave,
    ast.Continue: _Reader._leave,
    ast.For: _Reader._for,
    ast.If: _Reader._if,
    ast.Return: _Reader._return,
}
_EXPRESSIONS: dict[type[ast.expr], Callable[..., tuple[ast.expr, str]]] = {
    ast.Attribute: _Reader._attribute,
    ast.BinOp: _Reader._binary,
    ast.BoolOp: _Reader._boolean,
    ast.Call: _Reader._call,
    ast.Compare: _Reader._compare,
    ast.Constant: _Reader._constant,
    ast.IfExp: _Reader._either,
    ast.Name: _Reader._name,
    ast.UnaryOp: _Reader._unary,
}
_WORDS: dict[type[ast.AST], str] = {
    ast.Assert: "an assertion",
    ast.Await: "an await",
    ast.ClassDef: "a class",
    ast.Delete: "a deletion",
    ast.Dict: "a dict",
    ast.DictComp: "a comprehension",
    ast.FunctionDef: "a function within",
    ast.GeneratorExp: "a generator",
    ast.Global: "global state",
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.JoinedStr: "a string",
    ast.Lambda: "a lambda",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.Nonlocal: "outer state",
    ast.Pass: "nothing done",
    ast.Raise: "an exception",
    ast.Set: "a set",
    ast.SetComp: "a comprehension",
    ast.Subscript: "a subscript",
    ast.Try: "an exception's handler",
    ast.Tuple: "a tuple",
    ast.While: "a while loop",
    ast.With: "a context",
    ast.Yield: "a generator",
}
