"""The laws of the design, for paths, runs and edits that hypothesis makes up."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from etude import Advance, Group, Plan, Redraw, Rollback, Scale, Stop, Stretch, parse, repeat
from etude.core.edit import edit_from_json
from etude.core.length import Span, fraction_of, measure
from etude.core.path import Repeat, Schedule
from etude.core.rates import Rates
from etude.core.shapes import SHAPES
from etude.errors import ScheduleError

LAW = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

UNITS = {"epoch": 12.5, "batch": 16, "tokens": 2048}
RUN = Span(1.0, **UNITS)

heights = st.one_of(st.sampled_from([0.0, 1, 1.0, 0.1, 1 / 3]), st.floats(0, 3), st.integers(0, 3))
positive = st.one_of(st.sampled_from([1, 0.1, 1e-7]), st.floats(1e-6, 3))
updates = st.one_of(
    st.integers(0, 20),
    st.sampled_from(["0up", "2.5up", "1ep", "0.3ep", "40ex", "1e4tok"]),
)
shares = st.one_of(
    st.floats(0.001, 0.12),
    st.sampled_from([0.0, 0.1, 0.05, 1 / 30, "6%", "0%", "7.5%", " 3 %"]),
)


@st.composite
def words(draw, mode, length):
    """One word; `length` is None, or what stands as its first bracket."""
    names = [
        name for name, shape in SHAPES.items() if not shape.gate_only and (length or not shape.needs_over)
    ]
    shape = SHAPES[draw(st.sampled_from(names))]
    brackets = {}
    level = positive if shape.positive else heights
    if shape.takes_to and (shape.needs_to or draw(st.booleans())):
        brackets["to"] = draw(level)
    if shape.positive or draw(st.integers(0, 4)) == 0:
        brackets["start"] = draw(level)
    if "power" in shape.options and draw(st.booleans()):
        brackets["power"] = draw(st.sampled_from([0.5, 1, 3, 2.2]))
    absolute, relative = [7, "2ep", "300.5up"], [0.3, "25%"]
    lengths = st.sampled_from({"updates": absolute, "shares": relative, "mixed": absolute + relative}[mode])
    for name in sorted(shape.lengths - {"down"}):
        brackets[name] = draw(lengths)
    for name in shape.milestones:
        brackets[name] = tuple(draw(st.lists(lengths, min_size=1, max_size=3)))
    for name in sorted(shape.levels):
        brackets[name] = draw(heights)
    for name in {"exponent", "k", "by", "gamma", "d"} & set(shape.options):
        if draw(st.integers(0, 3)) == 0:
            brackets[name] = draw(st.sampled_from([0.9, 0.5]))
    written = [] if length is None else [repr(length)]
    written += [f"{key}={value!r}" for key, value in brackets.items()]
    return parse(f"{shape.name}({', '.join(written)})")


@st.composite
def repeats(draw, mode, depth):
    inner = draw(st.sampled_from(["updates", "shares"])) if mode == "mixed" else mode
    path = draw(paths(inner, depth - 1))
    times = draw(st.integers(1, 3))
    given = {}
    if draw(st.booleans()):
        given["stretch"] = draw(st.sampled_from([2, 0.5, 1.5]))
    if draw(st.booleans()):
        given["fade"] = draw(st.sampled_from([0.5, 2, 0.9]))
    if inner == "updates":
        assume(any(measure(piece.over, RUN, 0) for piece in path.pieces if not isinstance(piece, Repeat)))
        return repeat(path, times, **given)
    return repeat(path, times, draw(st.sampled_from([None, 0.2, "15%"])), **given)


@st.composite
def paths(draw, mode="mixed", depth=2):
    """A path whose lengths are all in updates, all shares of the span, or of both kinds; the last two leave a
    rest to a piece without a length."""
    count = draw(st.integers(1, 4))
    rest = draw(st.integers(0, count - 1)) if mode != "updates" else None
    whole = None
    for index in range(count):
        if index == rest:
            piece = draw(words(mode, None))
        elif depth > 0 and draw(st.integers(0, 3)) == 0:
            piece = draw(repeats(mode, depth))
        else:
            length = {"updates": updates, "shares": shares, "mixed": updates | shares}[mode]
            piece = draw(words(mode, draw(length)))
        whole = piece if whole is None else whole >> piece
    return whole


def needed(path, stretch=1.0):
    """The planned updates that a path's absolute lengths take, and the share of the span that others take."""
    absolute = share = 0.0
    for piece in path.pieces:
        if not isinstance(piece, Repeat):
            share += fraction_of(piece.over)
            absolute += 0 if fraction_of(piece.over) else measure(piece.over, RUN, 0) * stretch
            continue
        inner, inner_share = needed(piece.path)
        series = sum(piece.stretch**i for i in range(piece.times))
        if inner_share == 0 and all(isinstance(p, Repeat) or p.over is not None for p in piece.path.pieces):
            absolute += inner * series * stretch
        share += fraction_of(piece.over)
    return absolute, share


@st.composite
def runs(draw, path):
    """A run that the path fits into."""
    absolute, share = needed(path)
    assume(share < 0.95)
    free = [p for p in path.pieces if p.over is None and not (isinstance(p, Repeat) and needed(p.path)[0])]
    assume(free)
    least = (absolute + 1) / (1 - share)
    return least + draw(st.one_of(st.integers(1, 1000), st.floats(1, 1e5)))


@st.composite
def drawn(draw, mode="mixed"):
    """A path, the length of its run, and its curve."""
    path = draw(paths(mode))
    total = draw(runs(path))
    return path, total, path.over(total, **UNITS)


peaks = st.one_of(st.integers(0, 10), st.floats(0, 1e3), st.sampled_from([2e-5, 1e-320, 1e300]))


@LAW
@given(paths(), st.lists(paths(), max_size=2), peaks)
def test_text_and_value_are_one(path, factors, peak):
    for value in (path, Schedule(peak, (path, *factors))):
        assert parse(str(value)) == value
        assert hash(parse(str(value))) == hash(value)
        assert str(parse(str(value))) == str(value)


@LAW
@given(drawn())
def test_boundaries_sum_to_the_total(case):
    _, total, curve = case
    rows = curve.lines[0].rows
    assert rows[0].begin == 0
    assert rows[-1].end == total == curve.total
    assert all(row.end == after.begin and row.begin <= row.end for row, after in pairwise(rows))
    assert math.fsum(row.end - row.begin for row in rows) == pytest.approx(total, rel=1e-12)
    table = curve.table()[0]
    assert [end for _, end, *_ in table[:-1]] == [begin for begin, *_ in table[1:]]


@LAW
@given(drawn())
def test_a_curve_is_continuous_but_for_start_and_zero_lengths(case):
    _, total, curve = case
    rows = curve.lines[0].rows
    for row, after in pairwise(rows):
        if after.stroke.start is None:
            assert after.a == row.b
        if after.stroke.start is None and row.end > row.begin and after.end > after.begin:
            reach = max(row.a + row.b for row in rows)
            assert curve(math.nextafter(after.begin, 0)) == pytest.approx(after.a, abs=1e-5 * reach)
            assert curve(after.begin) == after.a
    assert curve(total) == curve(2 * total) == rows[-1].b


@LAW
@given(drawn(), st.lists(st.floats(-0.1, 1.2), min_size=1, max_size=20))
def test_arrays_and_numbers_agree(case, places):
    path, total, curve = case
    times = np.array([total * place for place in places] + [row.begin for row in curve.lines[0].rows])
    powers = any(name in str(path) for name in ("poly", "exp", "step", "tanh", "cyclic", "k="))
    for t, value in zip(times, curve(times), strict=True):
        if powers:
            assert value == pytest.approx(curve(float(t)), rel=1e-14, abs=1e-15)
        else:
            assert value == curve(float(t))


@LAW
@given(drawn("shares"), st.floats(0, 1), st.sampled_from([2, 3, 0.5, 10]))
def test_a_run_twice_as_long_is_the_same_curve_twice_as_slow(case, place, times):
    path, total, curve = case
    assume("gamma" not in str(path))  # it counts updates
    t = place * total
    assume(all(abs(t - row.begin) > 1e-6 * total for row in curve.lines[0].rows))
    assert path.over(times * total, **UNITS)(times * t) == pytest.approx(curve(t), rel=1e-12, abs=1e-12)


# --- edits -------------------------------------------------------------------------------------------------

GROUPS = [
    Group("emb", scale={"lr": 0.5}, gate=parse("frozen(0.2) >> warmup(0.1) >> hold()")),
    Group("body", scale={"weight_decay": 0.0}, gate=parse("cosine(0.6) >> frozen()")),
    Group("head", scale={"lr": 10.0}),
]


@st.composite
def plans(draw):
    path = draw(paths(depth=1))
    factors = draw(st.lists(paths("shares", 0), max_size=1))
    total = draw(runs(path))
    assume(all(needed(factor)[1] < 0.9 for factor in factors))
    hypers = {"lr": Schedule(3e-4, (path, *factors)), "weight_decay": "0.1 * linear(to=0.5)"}
    return Plan(hypers, GROUPS, draw(st.sampled_from([0, 0.5, 1]))), total


def an_edit(draw, rates, t, saved):
    """An edit that makes sense when the clock stands at `t`, or None."""
    kind = draw(st.sampled_from(["scale", "scale", "stretch", "advance", "redraw", "rollback", "stop"]))
    if kind == "scale":
        hyper = draw(st.sampled_from(["lr", "weight_decay"]))
        return Scale(t, draw(st.floats(0.1, 2)), hyper, draw(st.sampled_from(["*", "emb", "[bh]*"])))
    if kind == "stretch" and t < rates.total:
        return Stretch(t, t + (rates.total - t) * draw(st.floats(0.3, 3)))
    if kind == "advance":
        return Advance(t)
    if kind == "redraw":
        texts = ["linear(0.3, to=0.7) >> cosine(to=0.1)", "hold() >> sqrt(0.2)", "hold()"]
        return Redraw(t, draw(st.sampled_from(texts)), t + draw(st.floats(1, 200)))
    if kind == "rollback":
        to, keep = draw(st.sampled_from(saved))
        return Rollback(t, to, keep)
    if kind == "stop" and draw(st.integers(0, 3)) == 0:
        return Stop(t)
    return None


@st.composite
def histories(draw):
    """A run as a loop makes it: its last rates, and [(begin, end, edits known, rates used, groups open)].

    Updates have unequal lengths, as where the clock counts examples; edits come between them.
    """
    plan, total = draw(plans())
    rates = plan.over(total, **UNITS)
    t, made, saved = 0.0, [], [(0.0, 0)]
    for _ in range(draw(st.integers(5, 25))):
        if t >= rates.total:
            break
        end = min(t + draw(st.sampled_from([1, 1, 0.5, 7.25, total / 20])), rates.total)
        made.append((t, end, len(rates.edits), rates.at(t, end), rates.open(t)))
        t = end
        if draw(st.integers(0, 2)) == 0:
            edit = an_edit(draw, rates, t, saved)
            try:
                rates = rates if edit is None else rates.edit(edit)
            except ScheduleError:
                continue
            if isinstance(edit, Rollback):
                t = edit.to
                saved = [(to, keep) for to, keep in saved if to <= t and keep <= edit.keep]
        if draw(st.integers(0, 3)) == 0:
            saved.append((t, len(rates.edits)))
    return rates, made


def bits(values):
    return {hyper: [value.hex() for value in row] for hyper, row in values.items()}


@LAW
@given(histories())
def test_replay_is_live_to_the_last_bit(case):
    rates, made = case
    for begin, end, known, used, opened in made:
        replayed = Rates(rates.plan, rates.span, rates.edits[:known])
        assert bits(replayed.at(begin, end)) == bits(used)
        assert replayed.open(begin) == opened


@LAW
@given(histories())
def test_the_whole_list_tells_of_every_stretch_that_was_kept(case):
    rates, made = case
    whole = Rates(rates.plan, rates.span, rates.edits)
    assert whole.total == rates.total
    kept = []
    for index, (begin, end, known, used, opened) in enumerate(made):
        undone = [e for e in rates.edits[known:] if isinstance(e, Rollback) and e.to < end]
        again = [m for m in made[index + 1 :] if m[0] < end]
        if not undone and not again:
            kept.append(begin)
            assert bits(whole.at(begin, end)) == bits(used) == bits(rates.at(begin, end))
            assert whole.open(begin) == opened
    assert kept == sorted(kept)


@LAW
@given(histories())
def test_edits_never_alter_what_lies_before_and_a_rollback_is_what_it_kept(case):
    rates, made = case
    grown = Rates(rates.plan, rates.span)
    for edit in rates.edits:
        after = grown.edit(edit)
        at = edit.to if isinstance(edit, Rollback) else edit.at
        kept = grown
        if isinstance(edit, Rollback):
            kept = Rates(rates.plan, rates.span, grown.edits[: edit.keep])
        for begin, end, *_ in made:
            if begin < at or isinstance(edit, Rollback):
                assert bits(after.at(begin, end)) == bits(kept.at(begin, end))
                assert after.open(begin) == kept.open(begin)
        grown = after


@LAW
@given(histories())
def test_edits_survive_json(case):
    rates, made = case
    written = json.loads(json.dumps([edit.as_json() for edit in rates.edits], allow_nan=False))
    read = tuple(edit_from_json(data) for data in written)
    assert read == rates.edits
    again = Rates(rates.plan, rates.span, read)
    for begin, end, *_ in made:
        assert bits(again.at(begin, end)) == bits(rates.at(begin, end))
