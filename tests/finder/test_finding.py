import json
import math

import numpy as np
import pytest

from etude import EtudeError
from etude.finder.consensus import DEFAULT
from etude.finder.divergence import Watch, watch
from etude.finder.finding import Finding
from etude.finder.rules import RULES
from etude.finder.scan import Scan
from etude.finder.smoothing import smooth

RATES = [10 ** (-7 + 0.08 * k) for k in range(95)]


def sweep(seed: int = 0, deviation: float = 0.04) -> tuple[list[float], str]:
    """The losses of a run that learns, then diverges; and why it was stopped."""
    rng, state, losses = np.random.default_rng(seed), Watch(), []
    for rate in RATES:
        losses.append(
            0.4 + 0.8 / (1 + (rate / 8e-4) ** 1.2) + (rate / 0.05) ** 2 + float(rng.normal(0, deviation))
        )
        state, reason = watch(state, losses[-1])
        if reason:
            return losses, reason
    return losses, ""


STEPS = [10 ** (k / 5) for k in range(-30, 0)]
SCAN = Scan.of(STEPS, [1 - step + 50 * step**2 for step in STEPS], 1.0)


@pytest.fixture(scope="module")
def five() -> Finding:
    curves, reasons = zip(*(sweep(seed) for seed in range(5)), strict=True)
    return Finding.of(RATES, curves, stopped=reasons[0], scan=SCAN)


def test_the_rules_see_the_mean_of_the_seeds(five):
    n = min(map(len, five.curves))
    assert len(five.losses) == n
    assert len(five.rates) == max(map(len, five.curves)) < len(RATES)
    mean = np.mean([curve[:n] for curve in five.curves], axis=0)
    assert np.allclose(five.losses, mean, rtol=1e-12)
    for name, rule in RULES.items():
        assert five.suggestions[name] == rule(five.rates[:n], five.losses)


def test_one_seed_is_judged_by_the_default_rule():
    losses, stopped = sweep()
    found = Finding.of(RATES, [losses], stopped=stopped)
    assert found.suggestion == DEFAULT(RATES[: len(losses)], losses)
    assert found.rate == found.suggestion.rate
    assert found.losses == tuple(losses)


def test_the_confidence_of_the_known_rules_is_not_shown(five):
    """It is that of the curve, and the same for all, however far apart they lie."""
    _, own, *others, scan = five.page()["rows"]
    assert own[3] == f"{five.suggestion.confidence:.1f}"
    assert scan[3] == f"{SCAN.suggestion.confidence:.1f}"
    assert [row[3] for row in others] == [""] * len(RULES)
    assert all(row[4] for row in others)


def test_the_range_covers_every_seed(five):
    for curve in five.curves:
        alone = DEFAULT(five.rates[: len(curve)], curve)
        assert five.suggestion.low <= alone.rate <= five.suggestion.high


def test_a_seed_that_diverges_early_does_not_pull_the_mean_down():
    late, early = [2.0] * 60, [2.0] * 30 + [9.0]
    assert Finding.of(RATES, [late, early]).losses[-2:] == (2.0, 5.5)


def test_held_out_losses_are_judged_in_place_of_training_losses():
    losses, _ = sweep()
    flat = [0.7] * len(losses)
    found = Finding.of(RATES, [flat], held_out=[losses])
    assert found.suggestions == Finding.of(RATES, [losses]).suggestions
    assert found.losses == tuple(flat)
    assert "the held-out loss" in str(found)
    assert not Finding.of(RATES, [losses], held_out=[flat]).suggestion


@pytest.mark.parametrize(
    ("losses", "said"),
    [([0.7] * 95, "flat"), ([0.7] * 5, "too short"), ([0.7, math.nan], "too short"), ([], "too short")],
)
def test_a_finding_without_a_rate_says_why_and_can_be_shown(tmp_path, losses, said):
    found = Finding.of(RATES, [losses], stopped="the loss is NaN" if len(losses) < 95 else "")
    assert found.rate is None
    assert not found.suggestion
    assert said in str(found)
    assert str(found).startswith("no suggestion")
    assert said in found._repr_html_()
    found.plot(tmp_path / "curve.svg")
    assert Finding.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))).rate is None


def test_the_report_says_what_to_write_what_the_rules_say_and_where_it_stopped(five):
    text = str(five)
    assert text.startswith(f"{five.suggestion.title}\n")
    assert "lr=" in text.splitlines()[0]
    for name in (*RULES, "scan"):
        assert any(line.startswith(name) for line in text.splitlines())
    assert "5 seeds" in text
    assert f"Stopped early: {five.stopped}." in " ".join(text.split())
    assert all(len(line) <= 110 for line in text.splitlines())


def test_a_rate_above_the_edge_asks_for_a_warm_up():
    losses, _ = sweep()
    rate = Finding.of(RATES, [losses]).rate
    for edge, said in ((rate / 3, "so warm up"), (rate * 3, "is stable below")):
        scan = Scan.of(STEPS, [1 - step + step**2 / edge for step in STEPS], 1.0)
        text = " ".join(str(Finding.of(RATES, [losses], scan=scan)).split())
        assert said in text
        assert ("warm up" in text) == (said == "so warm up")


def test_json_and_back_to_the_last_bit(five):
    text = json.dumps(five.to_dict(), allow_nan=False)
    back = Finding.from_dict(json.loads(text))
    assert back == five
    assert str(back) == str(five)
    broken = Finding.of(RATES, [[*five.losses[:40], math.inf]], held_out=[[*five.losses[:40], math.nan]])
    again = Finding.from_dict(json.loads(json.dumps(broken.to_dict(), allow_nan=False)))
    assert again.curves[0][40] == math.inf
    assert math.isnan(again.held_out[40])
    assert json.dumps(again.to_dict()) == json.dumps(broken.to_dict())


def test_the_view_is_the_curve_its_band_and_its_marks(five):
    view = five.view()
    n = len(five.losses)
    assert view.smooth == smooth(five.rates[:n], five.losses).loss.tolist()
    low, high = (np.array(edge[:n]) for edge in view.band)
    assert np.all(low <= high)
    assert np.mean(high - low) > 0.01
    assert view.marks == {name: each.rate for name, each in five.suggestions.items()}
    assert view.suggested == (five.suggestion.low, five.rate, five.suggestion.high)
    assert view.edge == SCAN.edge
    assert Finding.of(RATES, [sweep()[0]]).view().band is None


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((RATES, []), {}),
        ((RATES[:3], [[1.0] * 4]), {}),
        ((RATES, [[1.0]] * 2), {"held_out": [[1.0]]}),
        (([], [[]]), {}),
    ],
)
def test_curves_that_do_not_fit_are_refused(arguments, options):
    with pytest.raises(EtudeError, match="a finding needs"):
        Finding.of(*arguments, **options)


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_picture_is_written_by_its_ending(five, tmp_path, name, magic):
    path = five.plot(tmp_path / name)
    assert path.read_bytes().startswith(magic)


def test_another_ending_is_refused_before_anything_is_drawn(five, tmp_path):
    with pytest.raises(EtudeError, match=r"\.png, \.svg, \.pdf"):
        five.plot(tmp_path / "curve.gif")
    assert not list(tmp_path.iterdir())
