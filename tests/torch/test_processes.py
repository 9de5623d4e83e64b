"""Real processes over gloo, forked from this one: one reading, one decision, one set of rates."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch._dynamo  # loaded before the fork: each process would take seconds for it

import etude
from etude import Driver, Plan, Scale
from etude.control.early_stop import early_stop
from etude.control.plateau import plateau
from etude.errors import EtudeError
from etude.torch.processes import gather

pytestmark = pytest.mark.timeout(60)

PLAN = Plan({"lr": "1e-2 * (warmup(0.1) >> cosine(to=0.1))"})


def alone(rank, controllers, seen, alike=False, **given):
    """What a driver of one process did with all readings: the rates used after each, the edits, an error."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    driver = Driver(PLAN.over(40), etude.torch.sink(optimizer), controllers, **given)
    rates, said = [], ""
    for i, reading in enumerate(seen):
        if i >= driver.total:
            break
        driver.apply(i)
        try:
            if reading == "by hand":
                driver.edit(Scale(i, 0.5))
            else:
                driver.observe(i + 1, reading, alike=alike)
        except EtudeError as error:
            said = str(error)
            break
        driver.apply(i + 1)
        rates.append(optimizer.param_groups[0]["lr"])
    edits = [edit.as_json() for edit in driver.edits]
    return {"rates": rates, "edits": edits, "memory": driver.memory, "said": said, "total": driver.total}


def case_flat(rank, count):
    return alone(rank, [plateau("loss", patience=3)], [{"loss": 1.0}] * 10, gather=gather)


def case_local(rank, count):
    """What each process reads says something else: the first one's falls, the others' rise."""
    losses = [0.9 - 0.05 * i if rank == 0 else 1.1 + 0.1 * i for i in range(8)]
    both = [plateau("loss", patience=2), early_stop("loss", 5)]
    return alone(rank, both, [{"loss": loss} for loss in losses], gather=gather)


def case_first_alone(rank, count):
    """Only the first process evaluates."""
    seen = [{"loss": 1.0} if rank == 0 else {} for _ in range(6)]
    return alone(rank, [plateau("loss", patience=2)], seen, gather=gather)


def case_nan(rank, count):
    """One process alone reads a NaN: nobody counts it."""
    losses = [1.0, 1.0, math.nan if rank == 1 else 1.0, 1.0, 1.0]
    return alone(rank, [plateau("loss", patience=3)], [{"loss": loss} for loss in losses], gather=gather)


def case_reduced(rank, count):
    """A reduction of one's own: the worst."""

    def worst(reading):
        return {metric: max(one[metric] for one in gather(reading)) for metric in reading}

    losses = [1.0 - 0.1 * i + 0.2 * i * rank for i in range(6)]
    seen = [{"loss": loss} for loss in losses]
    return alone(rank, [plateau("loss", patience=2)], seen, gather=gather, reduce=worst)


def case_other_settings(rank, count):
    """One process was started with another patience: it does what the first decides."""
    return alone(rank, [plateau("loss", patience=2 + 3 * rank)], [{"loss": 1.0}] * 8, gather=gather)


def case_by_hand(rank, count):
    """An edit on one process alone."""
    seen = [{"loss": 1.0}, "by hand" if rank == 1 else {"acc": 0.5}, {"loss": 0.5}]
    return alone(rank, [plateau("loss")], seen if rank == 1 else [seen[0], seen[2]], gather=gather)


def case_without(rank, count):
    return alone(
        rank, [plateau("loss", patience=1)], [{"loss": 1.0 + 0.1 * (1 - 2 * rank) * i} for i in range(4)]
    )


def case_alike(rank, count):
    """Readings that were made one before: nothing is said between the processes, and so one alone may ask."""

    def told(_):
        raise AssertionError("gathered")

    given = {"gather": told, "reduce": told}
    return (
        alone(rank, [plateau("loss", patience=2)], [{"loss": 1.0}] * 6, alike=True, **given) if rank else None
    )


def work(rank, store, out, case, count):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    Path(f"{out}-{rank}.json").write_text(json.dumps(globals()[f"case_{case}"](rank, count)))
    torch.distributed.destroy_process_group()


@pytest.fixture
def together(processes, tmp_path):
    """What every process of a case found."""

    def run(case, count=2):
        store, out = str(tmp_path / f"store{count}"), str(tmp_path / f"out{count}")
        processes(work, store, out, case, count, count=count)
        return [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(count)]

    return run


def test_pain_30_patience_counts_evaluations_and_not_processes(together):
    one = case_flat(0, 1)
    assert [edit["at"] for edit in one["edits"]] == [4, 7, 10]
    for count in (2, 4):
        for each in together("flat", count):
            assert each == one


def test_pain_31_the_mean_decides_and_all_do_the_same(together):
    both = together("local")
    assert both[0] == both[1]
    assert both[0]["rates"]
    assert [edit["author"] for edit in both[0]["edits"]] == ["plateau", "plateau", "early_stop"]
    mean = alone(
        0, [plateau("loss", patience=2), early_stop("loss", 5)], [{"loss": 1 + 0.025 * i} for i in range(6)]
    )
    assert [edit["at"] for edit in both[0]["edits"]] == [edit["at"] for edit in mean["edits"]] == [3, 5, 6]
    assert both[0]["total"] == 6


def test_an_evaluation_on_the_first_process_alone_counts_for_all(together):
    both = together("first_alone")
    assert both[0] == both[1]
    assert [edit["at"] for edit in both[0]["edits"]] == [3, 5]


def test_a_nan_on_one_process_counts_for_none(together):
    both = together("nan")
    assert both[0] == both[1]
    assert [edit["at"] for edit in both[0]["edits"]] == [5]


def test_a_reduction_of_ones_own(together):
    both = together("reduced")
    assert both[0] == both[1]
    assert [edit["at"] for edit in both[0]["edits"]] == [3, 5]


def test_pain_31_the_decision_of_the_first_process_is_that_of_all(together):
    both = together("other_settings")
    assert both[0] == both[1]
    assert [edit["at"] for edit in both[0]["edits"]] == [3, 5, 7]


def test_pain_31_rates_that_differ_are_refused_on_every_process(together):
    for each in together("by_hand"):
        assert "the processes do not have the same rates\n  process 0: lr" in each["said"]
        assert "1 edits, the last by user at 1" in each["said"]
        assert "make the same edits by hand" in each["said"]


def test_pain_31_without_gather_they_part(together):
    """What the tests above would see if nothing were gathered."""
    both = together("without")
    assert both[0]["rates"] != both[1]["rates"]


def test_a_reading_that_is_alike_on_all_needs_no_word(together):
    first, second = together("alike")
    assert first is None
    assert [edit["at"] for edit in second["edits"]] == [3, 5]


def test_one_process_needs_no_group():
    assert gather({"loss": 0.5}) == [{"loss": 0.5}]
    assert case_flat(0, 1) == alone(0, [plateau("loss", patience=3)], [{"loss": 1.0}] * 10)
