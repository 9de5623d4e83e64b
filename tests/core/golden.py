"""The golden table: levels of every word in double precision, by which every array library is tested.

`python tests/core/golden.py` writes `golden.json` from the scalar path; the diff shows what a change of a
formula changes. Times are whole updates: before the run, at and beside every boundary, inside, past the end.
"""

import json
import math
import pathlib

import etude

FILE = pathlib.Path(__file__).with_name("golden.json")

# (path, total). Every word, every option of every word, repeats, products, jumps, fractional boundaries.
CASES = [
    ("hold(0.25, start=0.3) >> hold()", 100),
    ("linear(to=0.2)", 100),
    ("linear()", 97.5),
    ("linear(0.1, start=1/32, to=1) >> linear(to=1/32)", 1000),
    ("warmup(10) >> hold()", 100),
    ("warmup(7, start=0.2, to=0.6) >> linear()", 33),
    ("exp_warmup(40, timescale=10, to=0.5) >> hold()", 100),
    ("exp_warmup(0.3, start=0.1) >> hold()", 100),
    ("cosine(to=0.01)", 900),
    ("warmup(0.07) >> cosine(to=0.01)", 950),
    ("cosine(0.3, start=0.04, to=1) >> cosine(to=4e-6)", 100),
    ("cosine(exponent=2, to=0.2)", 100),
    ("cosine(k=2, exponent=0.5, to=0.1)", 100),
    ("quarter_cosine(to=0.1)", 90),
    ("wave(half=30, low=0.2)", 100),
    ("hold(10) >> repeat(wave(half=0.5, low=0.2, start=1), 2, fade=0.5)", 100),
    ("poly(to=0.1, power=3)", 100),
    ("poly(power=0.5)", 100),
    ("poly(power=3, k=2)", 100),
    ("exp(to=0.0001)", 100),
    ("exp(start=1e-4, to=10)", 80),
    ("warmup(100) >> inv_time()", 10_000),
    ("inv_time(timescale=300)", 900),
    ("step(every=30, by=0.5)", 100),
    ("step(times=6, start=0.5)", 49),
    ("multistep(at=(30, 0.8), by=0.5)", 100),
    ("repeat(multistep(30, at=(10, 20), start=1), 2, stretch=2)", 90),
    ("warmup(50) >> hold() >> sqrt(0.2, to=0.1)", 1000),
    ("square(to=0.2)", 100),
    ("warmup(100) >> inv_sqrt()", 10_000),
    ("inv_sqrt(timescale=0.5)", 100),
    ("rex(to=0.1)", 100),
    ("rex(d=0.9)", 100),
    ("tanh(lb=-2, ub=2, to=0.2)", 100),
    ("tanh()", 100),
    ("cyclic(up=20, start=0.1)", 100),
    ("cyclic(up=20, down=60, start=0.1, top=0.9, by=0.5)", 160),
    ("cyclic(up=50, start=0, gamma=0.99)", 200),
    ("warmup(0.05) >> repeat(cosine(start=1), 3, stretch=2, fade=0.5)", 350),
    ("repeat(repeat(linear(3, start=1), 2) >> hold(2, start=0.5), 4, stretch=1.5)", 65),
    ("linear(30.0e-2, to=0.5) >> hold(0) >> cosine(0.3, start=0.9) >> hold(start=0.25)", 100),
    ("2e-5 * (warmup(10) >> cosine()) * (hold(0.5) >> linear(to=0.5)) * exp(to=0.1)", 200),
    ("hold(19_999_000) >> linear()", 20_000_000),
    ("3e-4 * (warmup(2000) >> hold() >> sqrt(1000))", 20_000_000),
]
# Words of gates speak of whether a group trains; their level is 0.
GATES = [("frozen(30) >> warmup(0.1) >> hold()", 100), ("cosine(50) >> frozen()", 100)]


def curve(text, total):
    """The curve of a case; a gate is drawn as the product that a rate of 1 makes with it."""
    if "frozen" not in text:
        return etude.parse(text).over(total)
    from etude.core.curve import Curve

    rates = etude.Plan({"lr": 1.0}, [etude.Group("one", gate=etude.parse(text))]).over(total)
    return Curve(1.0, (rates.regimes[0].gates[0],), total)


def times(drawn):
    """Whole times around every boundary, 40 between, two before the run and some past its end."""
    ends = {x for rows in drawn.table() for row in rows for x in row[:2]}
    near = {math.floor(x) + i for x in ends for i in (-1, 0, 1, 2)}
    inside = {round(i * drawn.total / 41) for i in range(41)}
    late = {math.ceil(drawn.total) + i for i in (3, 1000)}
    return sorted(near | inside | late | {-5, -1})


def rows():
    """The table: path, total, times, levels."""
    found = []
    for text, total in [*CASES, *GATES]:
        drawn = curve(text, total)
        at = times(drawn)
        found.append({"path": text, "total": total, "times": at, "levels": [drawn(t) for t in at]})
    return found


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
