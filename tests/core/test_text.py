"""The text of a schedule: what `parse` reads, and that everything else is a quick and readable refusal."""

import time

import pytest

from etude import cosine, exp, frozen, hold, inv_sqrt, linear, parse, poly, repeat, sqrt, warmup
from etude.errors import ScheduleError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5 * (warmup(0.1) >> cosine(to=0.01))", 2e-5 * (warmup(0.1) >> cosine(to=0.01))),
        ("3e-4 * (warmup(500) >> hold() >> sqrt(0.2))", 3e-4 * (warmup(500) >> hold() >> sqrt(0.2))),
        ("1e-3*(cosine(0.3,start=0.04,to=1)>>cosine(to=4e-6))",
         1e-3 * (cosine(0.3, start=0.04, to=1) >> cosine(to=4e-6))),
        ("1e-3 * (linear(0.1, start=1/32, to=1) >> linear(to=1/32))",
         1e-3 * (linear(0.1, start=1 / 32, to=1) >> linear(to=1 / 32))),
        ("warmup(0.05) >> repeat(cosine(start=1), 3, stretch=2)",
         warmup(0.05) >> repeat(cosine(start=1), 3, stretch=2)),
        ("exp(start=1e-7, to=10)", exp(start=1e-7, to=10)),
        ("cosine(to=1e-6/2e-5)", cosine(to=1e-6 / 2e-5)),
        ('hold("2ep") >> poly(over="10%", power=3)', hold("2ep") >> poly("10%", power=3)),
        ("frozen(0.3) >> hold(start=1)", frozen(0.3) >> hold(start=1)),
        ("warmup(9) >> inv_sqrt(timescale='500ex')", warmup(9) >> inv_sqrt(timescale="500ex")),
        ("repeat(path=cosine(start=1), times=2, over=0.5, fade=1/2)",
         repeat(cosine(start=1), 2, 0.5, fade=0.5)),
        ("2 * 3 / 4 * cosine()", 1.5 * cosine()),
        ("cosine() * 2 * linear()", 2 * cosine() * linear()),
        ("-1 * -2 * cosine()", 2 * cosine()),
        ("(((cosine())))", cosine()),
        ("\n 2e-5 * (\n   warmup(0.1)\n   >> cosine()\n )\n", 2e-5 * (warmup(0.1) >> cosine())),
        ("0.01", 0.01 * hold()),
        ("1/4", 0.25 * hold()),
        ("0", 0 * hold()),
        ("1_000 * hold()", 1000 * hold()),
    ],
)  # fmt: skip
def test_reads(text, value):
    assert parse(text) == value
    assert parse(str(value)) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cosin()", "did you mean 'cosine'"), ("Cosine()", "did you mean 'cosine'"), ("frobnicate()",
        "known: cosine, cyclic, exp"),
        ("cosine", "write cosine()"), ("2e-5 * warmup >> cosine()", "write warmup(0.1)"),
        ("exp", "write exp(to=0.01)"), ("repeat", "write repeat(cosine(start=1), 3)"), ("frog", "no word"),
        ("cosine(too=0.1)", "did you mean 'to'"), ("repeat(cosine(), 2, strech=2)", "strech"),
        ("repeat()", "repeat"), ("repeat(cosine())", "times"), ("5 >> cosine()", "write 5 * (cosine())"),
        ("5 >> 6", "number * path"), ("cosine() >> 5", "only a path can follow"), ("cosine() + linear()",
        ">>"),
        ("cosine() + 1", "write 1 * (cosine())"), ("cosine() / 2", "write 1 / 2 * (cosine())"),
        ("1 / cosine()", "cannot be"), ("1 / 0 * cosine()", "divides by zero"), ("-2 * cosine()",
        "never negative"),
        ("-cosine()", "write cosine() without the minus"), ("cosine() * linear() >> hold()", "which factor"),
        ("hold() >> 2 * cosine()", "write 2 * (hold() >> cosine())"), ("'6%' * cosine()", "stands where"),
        ("repeat(2 * cosine(), 3)", "write 2 * repeat(cosine(), 3)"), ("cosine(**{'to': 1})", "by its name"),
        ("cosine(1.0)", 'write 1 for one update or "100%"'), ("cosine(5e2)", "write 500 "), ("warmup()",
        "warmup(0.1)"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(text, says):
    with pytest.raises(ScheduleError) as error:
        parse(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["2e-5 * warmup >> cosine()", "exp", "repeat", "5 >> cosine()", "cosine() / 2", "hold() >> 2 * cosine()",
     "repeat(2 * cosine(), 3)", "cosine() * linear() >> hold()", "cosine() + linear()", "-cosine()",
     "linear"],
)  # fmt: skip
def test_what_it_says_to_write_can_be_read(text):
    with pytest.raises(ScheduleError) as error:
        parse(text)
    _, _, line = str(error.value).rpartition("write ")
    for end in (" without", " for one", "Write the whole of each in brackets, as in "):
        line = line.rpartition(end)[2] if end.startswith("W") else line.partition(end)[0]
    if "as in " in line:
        line = line.rpartition("as in ")[2]
    parse(line)


HOSTILE = {
    "empty": "", "blank": "   ", "comment": "# hold()", "null byte": "hold()\0", "null": "\0",
    "surrogate": "\ud800hold()", "newline": "hold()\nhold()", "semicolon": "hold(); hold()",
    "statement": "x = 1",
    "import": "import os", "dunder import": "__import__('os').system('true')", "attribute": "hold().over(1)",
    "module": "math.cos(1)", "class": "hold().__class__.__mro__", "subscript": "hold()[0]",
    "lambda": "lambda: hold()",
    "called lambda": "(lambda: hold())()", "walrus": "(x := hold())", "f-string": "f'{hold()}'",
    "f-string length": "hold(f'{1}ep')", "list": "[hold()]", "tuple": "(hold(), hold())", "dict": "{}",
    "comprehension": "[hold() for _ in (1,)]", "generator": "hold(x for x in y)",
    "conditional": "hold() if 1 else 2",
    "comparison": "1 < 2", "and": "hold() and hold()", "not": "not hold()", "invert": "~1", "plus": "+1",
    "starred": "hold(*[1])", "double star": "hold(**{})", "ellipsis": "...", "none": "None", "true": "True",
    "bytes": "b'6%'", "complex": "1j * hold()", "bytes length": "hold(b'6%')",
    "none level": "cosine(to=None)",
    "true factor": "True * 2 * hold()", "true level": "cosine(to=True)", "true length": "hold(True)",
    "await": "await hold()", "yield": "(yield)",
    "text": "'hold()'", "quoted text": '"\'hold()\'"', "minus text": "-'6%'",
    "minus text inside": "hold(-'6%')",
    "text times": "'6%' * 3", "text power": "'a' * 10**9", "power": "2 ** 10 ** 9", "shift": "1 << 10**9",
    "many copies": "repeat(cosine(start=1), 10**9)",
    "nested copies": "repeat(" * 9 + "cosine(start=1)" + ", 999)" * 9,
    "int copies": "repeat(cosine(start=1), 1000000000)",
    "stretched": "repeat(cosine(start=1), 999, stretch=1e9)",
    "inf": "1e999 * hold()", "inf length": "hold(1e999)", "inf level": "cosine(to=1e999)",
    "nan": "nan * hold()",
    "inf product": "1e200 * 1e200 * hold()", "digits": "9" * 4000, "too many digits": "9" * 10_000,
    "digits length": f"hold({'9' * 4000})", "digits level": f"cosine(to={'9' * 4000})",
    "digits copies": f"repeat(cosine(), {'9' * 4000})", "digits divided": f"{'9' * 4000} / 3 * hold()",
    "digits multiplied": " * ".join(["9" * 4000] * 4) + " * hold()", "digits unit": f"hold('{'9' * 4000}ep')",
    "parentheses": "(" * 9000 + ")" * 9000, "open": "(" * 19_000, "brackets": "[" * 150 + "]" * 150,
    "minuses": "-" * 19_000 + "1", "nots": "not " * 4000 + "1", "long": "hold() >> " * 3000 + "hold()",
    "deep": "hold()>>" * 2400 + "hold()", "deep product": "2*" * 9000 + "hold()", "deep call": "hold(" * 3000,
    "deep repeat": "repeat(" * 190 + "frog()" + ", 1)" * 190,
    "right": "hold()>>(" * 2000 + "hold()" + ")" * 2000,
    "attributes": "a" + ".a" * 9000, "huge name": "a" * 19_000, "huge text": "'" + "x" * 19_000 + "'",
    "huge word": "hold(" + "x" * 19_000 + "=1)", "escape": "'\\N{DIGIT ONE}'", "tabs": "\t\thold(\n",
    "unicode name": "hôld()", "minus sign": "−1 * hold()", "times sign": "2 × hold()", "emoji": "🎼",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_quickly_and_in_few_words(text):
    begin = time.process_time()
    with pytest.raises(ScheduleError) as error:
        parse(text)
    assert time.process_time() - begin < 1
    assert len(str(error.value)) < 1200 or "a" * 999 in text or "x" * 999 in text or "ep" in text
    assert error.value.__cause__ is None


@pytest.mark.parametrize("text", [b"hold()", None, 5, ["hold()"], object(), 2e-5])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ScheduleError, match="takes a text"):
        parse(text)


def test_the_deepest_text_that_is_read_can_be_drawn():
    text = "repeat(" * 40 + "cosine(start=1)" + ", 1)" * 40
    assert parse(text).over(100)(50) == 0.5
    assert str(parse(text)) == text


def test_many_pieces_are_drawn_quickly():
    begin = time.process_time()
    curve = parse("repeat(cosine(start=1), 4000)").over(1_000_000)
    assert curve(999_875) == pytest.approx(0.5)
    assert time.process_time() - begin < 2


def test_nothing_is_run():
    with pytest.raises(ScheduleError):
        parse("hold(over=print('run'))")
