"""What a user-written strategy may say, and that whatever else it says is refused by line and word."""

from __future__ import annotations

import math
import textwrap

import pytest

from headrace import Ask, strategy
from headrace.bidding.strategies.strategy import load_strategies, load_strategy
from headrace.errors import ConfigError, InvalidRequestError, StrategyError


@pytest.fixture
def load(tmp_path):
    """A strategy ``bid`` from its body; line 5 is the body's first."""

    def load(body, signature="ask: Ask, x: float = 2"):
        text = f"import headrace\nfrom headrace import Ask\n@headrace.strategy\ndef bid({signature}) -> float:\n"
        file = tmp_path / "mine.py"
        file.write_text(text + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
        return load_strategy(f"{file}:bid")

    return load


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True:\n    x = 1\nreturn x", "line 5: a while loop: got 'while True:'"),
        ("for i in range(65):\n    x = i\nreturn x", r"line 5: got 'for i in range\(65\)'.*from 1 to 64"),
        ("for i in range(0):\n    x = i\nreturn x", r"got 'for i in range\(0\)'"),
        ("for i in range(8):\n    for j in range(9):\n        x += j\nreturn x", r"line 6: got 'for j in range\(9\)'"),
        ("for i in range(int(x)):\n    x = i\nreturn x", r"got 'for i in range\(int\(x\)\)'"),
        ("for i in (1, 2):\n    x = i\nreturn x", r"got 'for i in \(1, 2\)'"),
        ("for i in range(3):\n    x = i\nelse:\n    x = 1\nreturn x", "line 5"),
        ("return bid(ask)", "line 5: got 'bid', expected min, max, abs"),
        ("return [x][0]", r"line 5: a subscript: got '\[x\]\[0\]'"),
        ("y = [x]\nreturn x", r"line 5: a list: got '\[x\]'"),
        ("y = {x: x}\nreturn x", "line 5: a dict"),
        ("return sum(i for i in range(3))", "line 5: got 'sum', expected min"),
        ("return (lambda: x)()", r"line 5: a lambda: got '\(?lambda: x"),
        ("import os\nreturn x", "line 5: an import: got 'import os'"),
        ("global y\nreturn x", "line 5: global state"),
        ("return LIMIT", r"line 5: got 'LIMIT', expected a name that has a value.*\(x\)"),
        ("return ask.__class__", r"line 5: got 'ask.__class__', expected a field of ask: value_cpm"),
        ("return math.__dict__", "line 5: got 'math.__dict__'"),
        ("return math.factorial(x)", "line 5: got 'math.factorial', expected min, max, abs, ask.win_rate"),
        ("return open('f')", "line 5: got 'open', expected min"),
        ("return __import__('os')", "line 5: got '__import__'"),
        ("raise ValueError", "line 5: an exception: got 'raise ValueError'"),
        ("try:\n    x = 1\nexcept ValueError:\n    x = 2\nreturn x", "line 5: an exception's handler"),
        ("assert x > 1\nreturn x", "line 5: an assertion"),
        ("with x:\n    x = 1\nreturn x", "line 5: a context"),
        ("def inner():\n    return 1\nreturn x", "line 5: a function within"),
        ("yield x", "line 5"),
        ("return 'a million'", "got \"'a million'\", expected a finite number"),
        ("return 1j", "expected a finite number"),
        ("return 1e999", "expected a finite number"),
        ("return True", "got 'True', expected a finite number"),
        ("return None", "got 'None'"),
        ("return", "line 5: got 'return', expected a number returned"),
        ("x = 1", "line 4: got 'a way to the end without return'"),
        ("if x > 1:\n    return x", "a way to the end without return"),
        ("for i in range(3):\n    return i", "a way to the end without return"),
        ("return x\nx = 1", "line 6: got 'x = 1', expected nothing where no way leads"),
        ("if x > 1:\n    y = 1\nreturn y", "line 7: got 'y'"),
        ("for i in range(3):\n    y = i\nreturn y", "line 7: got 'y'"),
        ("y = x > 1\nreturn y", "line 6: got 'y', expected a number"),
        ("return x + (x > 1)", "got 'x > 1', expected a number"),
        ("if x:\n    return x\nreturn 1", "line 5: got 'x', expected a condition"),
        ("x = x > 1\nreturn 1", "line 5: got 'x, a condition', expected x to stay a number"),
        ("return x and 1", "line 5: got 'x', expected a condition"),
        ("return x | 1", r"line 5: got 'x \| 1', expected arithmetic"),
        ("return ~x", "line 5: got '~x'"),
        ("return 1 if x in x else 2", "line 5: got 'x in x', expected < <= > >= == or !="),
        ("return 1 if x is x else 2", "line 5"),
        ("x, y = 1, 2\nreturn x", "line 5"),
        ("ask.value_cpm = 3\nreturn x", "line 5: got 'ask.value_cpm = 3', expected one local name on the left"),
        ("ask = 1\nreturn x", "line 5: got 'ask'"),
        ("_y = 1\nreturn x", "line 5: got '_y'"),
        ("min = 1\nreturn x", "line 5: got 'min'"),
        ("return (y := x)", "line 5"),
        ("return min(x)", r"line 5: got 'min\(x\)', expected 2 to 8 numbers"),
        ("return min(x, key=x)", "line 5"),
        ("return min(*x)", "line 5"),
        ("return math.sqrt(x, x)", "line 5.*expected 1 numbers"),
        ("del x\nreturn 1", "line 5: a deletion"),
        ("pass\nreturn 1", "line 5: nothing done"),
        ("return f'{x}'", "line 5: a string"),
        ("await x\nreturn 1", "line 5"),
        ("return" + " -" * 999 + " x", "parts', expected at most 1000"),
        ("return (", "line 5: got .*expected Python"),
    ],
)
def test_what_is_refused_is_named_by_line_and_word(load, body, message):
    with pytest.raises(StrategyError, match=message):
        load(body)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("", r"expected \(ask, name=number, …\)"),
        ("ask, x", "each parameter has a default"),
        ("ask, *x", "each parameter has a default"),
        ("ask, **x", "each parameter has a default"),
        ("ask, x='a'", "a number as each parameter's default"),
        ("ask, x=True", "a number as each parameter's default"),
        ("ask, x=1e999", "a number as each parameter's default"),
        ("ask, *, x", "a number as each parameter's default"),
        ("ask, a=1, b=2, c=3, d=4, e=5, f=6, g=7, h=8, i=9", "got '9 parameters', expected at most 8"),
        ("ask, _x=1", "without _ in front"),
        ("ask, math=1", "got 'math'"),
    ],
)
def test_a_wrong_signature_is_refused(load, signature, message):
    with pytest.raises(StrategyError, match=message):
        load("return 1", signature)


def test_files_that_are_none(tmp_path):
    file = tmp_path / "mine.py"
    for spec in ("mine.py", ":bid", f"{file}:", f"{file}:not a name"):
        with pytest.raises(StrategyError, match=r"expected PATH\.py:FUNCTION"):
            load_strategy(spec)
    with pytest.raises(StrategyError, match="cannot be read"):
        load_strategy(f"{file}:bid")
    file.write_bytes(b"\xff")
    with pytest.raises(StrategyError, match="cannot be read"):
        load_strategy(f"{file}:bid")
    file.write_text("def bid(ask):\n    return 1\n")
    with pytest.raises(ConfigError, match=r"which is under none', expected one function under @headrace\.strategy"):
        load_strategy(f"{file}:bid")
    with pytest.raises(StrategyError, match="got '0 of that name'"):
        load_strategy(f"{file}:other")
    file.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(StrategyError, match="1048577 bytes"):
        load_strategy(f"{file}:bid")
    file.write_text("x = " + "(" * 500 + ")" * 500)
    with pytest.raises(StrategyError):
        load_strategy(f"{file}:bid")


def test_nothing_of_the_file_is_run(tmp_path):
    file = tmp_path / "mine.py"
    marker = tmp_path / "ran"
    file.write_text(f"open({str(marker)!r}, 'w')\n@strategy\ndef bid(ask, x=1):\n    '''Docs.'''\n    return x\n")
    made = load_strategy(f"{file}:bid")
    assert made(Ask(value_cpm=1.0)) == 1.0
    assert not marker.exists()
    with pytest.raises(StrategyError, match="another name than that of"):
        load_strategies([f"{file}:bid", f"{file}:bid"])


def test_all_that_may_be_said_means_what_python_means(load):
    body = """
        total = 0
        for i in range(8):
            for j in range(8):
                if i > 5:
                    break
                if j == 3:
                    continue
                total += i * j
        cheap = ask.floor_cpm < 1e6 and not ask.first_price == 1
        if cheap or 0 < x <= 2 != 3:
            part = ask.multiplier // 0.3 + 7 % 4
        elif total > 5:
            part = -2
        else:
            return abs(-x)
        total -= ask.win_rate(15)
        return max(total, part, 2 ** 3) / math.hypot(3, 4) + (math.pi if cheap else math.floor(2.5)) + math.pow(x, 2)
    """
    total = sum(i * j for i in range(6) for j in range(8) if j != 3) - 0.25
    made = load(body)
    ask = Ask(value_cpm=1.0, prices=(10.0, 20.0), wins=(0.0, 0.5))
    assert made(ask) == total / 5 + math.pi + 4
    assert made(ask, 3.0) == total / 5 + math.pi + 9
    assert made(Ask(value_cpm=1.0, floor_cpm=2e6, prices=(10.0, 20.0), wins=(0.0, 0.5)), 5.0) == (total / 5 - 0) + (
        2 + 25
    )


def test_numbers_never_overflow_or_raise(load):
    ask = Ask(value_cpm=0.0)
    assert load("return 9223372036854775807 + 1 + 0 * x")(ask) == 2.0**63
    assert load("return math.exp(1e6 * x)")(ask) == math.inf
    assert load("return 1 / (x - 2)")(ask) == math.inf
    assert math.isnan(load("return math.sqrt(-x)")(ask))
    assert math.isnan(load("return (-8) ** (1 / (x + 1))")(ask))
    assert math.isnan(load("return x % ask.value_cpm")(ask))
    assert load("return math.floor(1e300 * x)")(ask) == math.floor(2e300)
    assert load("return math.ceil(math.inf)")(ask) == math.inf
    assert load("y = 1e200\nfor i in range(64):\n    y *= y\nreturn y")(ask) == math.inf


def test_parameters_are_given_in_order_and_the_rest_are_defaults(load):
    made = load("return x + 10 * y + 100 * z", "ask, x=1, y=-2, *, z: float = 3.5")
    assert made.parameters == {"x": 1.0, "y": -2.0, "z": 3.5}
    assert made(Ask(value_cpm=0.0)) == 331.0
    assert made(Ask(value_cpm=0.0), 2.0, 0.0) == 352.0
    assert made.row([5.0]).tolist() == [5.0, -2.0, 3.5, 0.0, 0.0, 0.0, 0.0, 0.0]
    with pytest.raises(InvalidRequestError, match=r"at most 3 \(x, y, z\)"):
        made.row([1, 2, 3, 4])
    for wrong in (math.nan, math.inf):
        with pytest.raises(InvalidRequestError, match="finite numbers"):
            made.row([wrong])


def test_the_decorator_checks_and_leaves_the_function_as_it_is(load):
    @strategy
    def half(ask: Ask, share: float = 0.5) -> float:
        """Half the worth."""
        return ask.value_cpm * share

    assert half(Ask(value_cpm=8.0)) == 4.0
    with pytest.raises(StrategyError, match=r"test_strategy_grammar.py, line \d+: a while loop"):

        @strategy
        def endless(ask):
            while True:
                pass

    with pytest.raises(StrategyError, match="a function in a file"):
        strategy(eval("lambda ask: 1"))


def test_what_it_costs_is_known(load):
    made = load("return x")
    assert made.compile_seconds > 0.0
    assert 0.0 < made.call_ns < 1e5
    assert len(made.digest) == 16
    assert "ns a call" in str(made)
    assert load("return x").digest == made.digest != load("return x + 1").digest
    assert not made.shades
    assert load("return ask.shaded_cpm").shades
