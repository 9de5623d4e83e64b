"""The guard in the loop: dropped, clipped and rolled back updates; and a quiet run that it leaves alone."""

import itertools
import json
import math
import os
import signal

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from etude.control.controller import Clip
from etude.control.driver import Driver
from etude.control.spike import spike
from etude.core.plan import Group, Plan
from etude.core.rates import rates_from_state
from etude.errors import EtudeError
from etude.report.log import read
from etude.torch import sink
from etude.train import checkpoint, guard
from etude.train.finetuning import finetune
from etude.train.loop import Loop
from etude.train.order import Order

PLAN = Plan({"lr": "0.02 * linear()"}, [Group("all", ("weight", "bias"))])


class Problem:
    """Least squares in float64; `factor` is what the losses of each call are multiplied by."""

    def __init__(self, factor=None, scaler: bool = False):
        self.accelerator = Accelerator(cpu=True)
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if scaler else None
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(400, 5, dtype=torch.float64, generator=generator)
        self.y = self.x.sum(1) + torch.randn(400, dtype=torch.float64, generator=generator)
        torch.manual_seed(1)
        self.model = torch.nn.Linear(5, 1).double()
        self.factor, self.calls = factor or {}, 0

    def loop(self, total: float, *controllers, clip: float | None = None) -> Loop:
        bare = torch.optim.SGD(PLAN.torch_groups(self.model))
        driver = Driver(PLAN.over(total, batch=8), sink(bare), controllers)
        model, optimizer = self.accelerator.prepare(self.model, bare)
        if scaler := self.accelerator.scaler:
            # What clip_grad_norm_ does first in fp16, which takes a GPU.
            self.accelerator.unscale_gradients = lambda: scaler.unscale_(bare)
        return Loop(self.accelerator, model, optimizer, driver, Order(400, seed=17), self.losses, 8, 1, clip)

    def losses(self, model, chosen):
        losses = (model(self.x[chosen]).squeeze(-1) - self.y[chosen]).square()
        self.calls += 1
        return losses * self.factor.get(self.calls - 1, 1.0)

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])


def run(loop: Loop) -> list[dict]:
    while not loop.done:
        loop.update()
    return loop.fetch()


@pytest.mark.parametrize("scaler", [False, True])
@pytest.mark.parametrize("fault", [math.nan, 1e4])
def test_an_anomalous_update_is_dropped_and_made_up_at_the_end(fault, scaler):
    problem = Problem({30: fault, 31: fault}, scaler)
    loop = problem.loop(40, spike())
    weights, records = [], []
    while not loop.done:
        loop.update()
        weights.append(problem.weights())
        records += loop.fetch()
    assert [i for i, record in enumerate(records) if record["skipped"]] == [30, 31]
    assert torch.equal(weights[29], weights[31])
    assert not torch.equal(weights[31], weights[32])
    assert (loop.clock.updates, loop.clock.skipped, loop.t) == (40, 2, 40)
    assert records[30]["t"] == records[31]["t"] == [30, 30]
    assert records[32]["t"] == [30, 31]
    assert loop.order.drawn == 8 * 42
    assert loop.driver.edits == ()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_dropped_update_leaves_no_statistics_of_its_batch(accumulate):
    """A forward pass writes them before there is a loss."""
    problem = Problem()
    problem.model = torch.nn.Sequential(torch.nn.BatchNorm1d(5), problem.model).double()
    problem.x[Order(400, seed=17).draw(8 * accumulate * 4)[8 * accumulate * 3]] = math.nan
    norm = problem.model[0]
    plan = Plan(
        {"lr": "0.02 * linear()"}, [Group("all", [name for name, _ in problem.model.named_parameters()])]
    )
    bare = torch.optim.SGD(plan.torch_groups(problem.model))
    driver = Driver(plan.over(6, batch=8 * accumulate), sink(bare), [spike()])
    model, optimizer = problem.accelerator.prepare(problem.model, bare)
    order = Order(400, seed=17)
    loop = Loop(problem.accelerator, model, optimizer, driver, order, problem.losses, 8, accumulate, None)
    seen = []
    for _ in range(5):
        loop.update()
        seen.append([buffer.clone() for buffer in norm.buffers()])
    assert [record["skipped"] for record in loop.fetch()] == [False, False, False, True, False]
    assert all(torch.equal(a, b) for a, b in zip(seen[2], seen[3], strict=True))
    assert int(norm.num_batches_tracked) == 4 * accumulate
    assert norm.running_mean.isfinite().all()
    assert not torch.equal(seen[3][0], seen[4][0])


def test_without_a_guard_the_same_update_ruins_the_weights():
    problem = Problem({30: math.nan})
    run(problem.loop(40))
    assert problem.weights().isnan().all()


@pytest.mark.parametrize("clip", [None, 2.0])
def test_the_update_moves_the_weights_by_the_norm_that_was_asked_for(clip):
    problem = Problem({30: 1e4})
    loop = problem.loop(40, spike("clip"), clip=clip)
    for _ in range(31):
        before = problem.weights()
        loop.update()
    ((asked,), record) = loop.asked, loop.fetch()[-1]
    assert isinstance(asked, Clip)
    assert 0.1 < asked.norm < 20 < record["grad_norm"]
    moved = float((problem.weights() - before).norm()) / record["rates"]["lr"][0]
    assert moved == pytest.approx(min(asked.norm, clip or math.inf), rel=1e-6)
    assert not record["skipped"]


@pytest.mark.parametrize("policy", ["skip", "clip", "rollback"])
def test_a_quiet_run_is_the_same_to_the_last_bit_with_the_guard_and_without_it(policy):
    ends = []
    for controllers in ((), (spike(policy),)):
        problem = Problem()
        records = run(problem.loop(50, *controllers, clip=1.0))
        ends.append((problem.weights(), [(one["loss"], one["grad_norm"], one["rates"]) for one in records]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_a_run_of_nothing_but_nan_ends_with_a_message():
    problem = Problem(dict.fromkeys(range(25, 999), math.nan))
    loop = problem.loop(40, spike(in_a_row=5))
    before = None
    while not loop.done:
        before = problem.weights()
        loop.update()
    assert torch.equal(problem.weights(), before)
    assert loop.clock.updates == 25
    assert loop.driver.total == 25
    assert "5 updates dropped in a row" in loop.driver.edits[-1].reason


def test_overflows_are_grad_scalers_own_and_endless_ones_end_with_a_message():
    """A gradient that overflows while the loss is finite is no anomaly: its scale is lowered."""
    problem = Problem(scaler=True)
    problem.losses = lambda model, chosen: (model(problem.x[chosen]) * 0).sqrt().squeeze(-1)  # 0, slope inf
    loop = problem.loop(40, spike())
    with pytest.raises(EtudeError, match=r"40 updates in a row overflowed in fp16.*precision: bf16"):
        run(loop)
    assert loop.clock.updates == 0
    assert loop.driver.edits == ()


class Faults:
    """Makes the losses of a whole run wrong, by the number of the update that is tried."""

    def __init__(self, monkeypatch, *tries: int, factor: float = math.nan):
        from etude.train import session

        make, self.seen = session.make_loop, []

        def faulty(prepared):
            loop = make(prepared)
            losses, tried = loop.losses, iter(range(10**6))

            def wrong(model, chosen):
                self.seen.append(list(chosen))
                return losses(model, chosen) * (factor if next(tried) in tries else 1.0)

            loop.losses = wrong
            return loop

        monkeypatch.setattr(session, "make_loop", faulty)


def test_pain_37_a_rollback_restores_scales_skips_the_window_and_is_in_the_log(
    tiny, tmp_path, monkeypatch, drawn, capsys
):
    """NaN in update 30 of 42, with a checkpoint at 21."""
    Faults(monkeypatch, 30)
    keys = tiny.keys(control=[{"spike": {"policy": "rollback"}}], lr="5e-3 * linear()", tick=0)
    run = finetune(output=tmp_path / "run", **keys)
    log = read(run.folder / "log.jsonl")
    to = log.checkpoints[0]["t"] if log.checkpoints[0]["k"] else log.checkpoints[1]["t"]
    back, scale = log.edits
    assert (back["edit"], back["to"], back["keep"], back["author"]) == ("rollback", to, 0, "spike")
    assert back["at"] > to == 20.125
    assert "train_loss is nan" in back["reason"]
    assert "back to the checkpoint of update 21" in back["reason"]
    assert back["reason"] in capsys.readouterr().out
    assert (scale["edit"], scale["at"], scale["by"]) == ("scale", to, 0.5)
    # The abandoned stretch is in the log, set apart; the run in force goes on from the checkpoint.
    lost = [one["k"] for one in log.abandoned if one["type"] == "update"]
    assert lost == [*range(21, 31)]
    assert [one["k"] for one in log.updates] == [*range(len(log.updates))]
    assert log.updates[-1]["t"][1] == 40.25
    # The rates: halved from the branch point on; the list of edits yields both branches.
    state = json.loads((checkpoint.newest(run.folder / "checkpoints").path / "state.json").read_text())
    rates = rates_from_state(state["driver"])
    abandoned = rates_from_state(state["driver"] | {"edits": []})
    for one in log.updates:
        expected = rates if one["t"][0] >= to else abandoned
        assert one["rates"]["lr"] == expected.at(*one["t"])["lr"]
        half = 0.5 if one["t"][0] >= to else 1.0
        assert one["rates"]["lr"] == [half * x for x in abandoned.at(*one["t"])["lr"]]
    for one in log.abandoned:
        if one["type"] == "update" and not one["skipped"]:
            assert one["rates"]["lr"] == abandoned.at(*one["t"])["lr"]
    # The data goes on behind the batch that was at fault: nothing is drawn a second time within its epoch.
    assert sorted(drawn[:161]) == list(range(161))
    assert sorted(drawn[161:322]) == list(range(161))
    assert state["clock"]["skipped"] == 1
    assert state["driver"]["controllers"]["spike"]["rollbacks"] == 1
    assert run.result is not None


def test_a_rollback_may_skip_the_data_of_more_updates(tiny, tmp_path, monkeypatch):
    """NaN in update 30: the next three batches are skipped too, and the run is as long as planned."""
    seen = {}
    for ahead in (0, 3):
        with monkeypatch.context() as patch:
            faults = Faults(patch, 30)
            control = [{"spike": {"policy": "rollback", "ahead": ahead}}]
            run = finetune(output=tmp_path / str(ahead), **tiny.keys(control=control))
            seen[ahead] = faults.seen
        assert read(run.folder / "log.jsonl").updates[-1]["t"][1] == 40.25
    assert seen[3][:31] == seen[0][:31]
    assert seen[3][31:40] == seen[0][34:43]


def test_a_rollback_puts_every_weight_and_moment_back(tiny, tmp_path, monkeypatch, loops):
    from etude.train import rollback

    Faults(monkeypatch, 30)
    seen = []
    put_back = rollback.put_back

    def watched(loop, saved):
        put_back(loop, saved)
        weights = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
        moments = [{key: x.clone() for key, x in loop.optimizer.state[p].items()} for p in loop.parameters]
        seen.append((weights, moments, load_file(saved.path / "model.safetensors"), saved.path))
        seen.append(load_file(saved.path / "optimizer.safetensors"))

    monkeypatch.setattr(rollback, "put_back", watched)
    finetune(output=tmp_path / "run", **tiny.keys(control=[{"spike": {"policy": "rollback"}}]))
    (weights, moments, saved, path), states = seen
    assert path.name == "00000021"
    assert len(saved) > 30
    for name, tensor in saved.items():
        assert torch.equal(weights[name], tensor), name
    assert {float(one["step"]) for one in moments} == {21.0}
    names = [name for group in loops[0].optimizer.param_groups for name in group["param_names"]]
    for name, one in zip(names, moments, strict=True):
        assert torch.equal(one["exp_avg"], states[f"exp_avg/{name}"])
        assert one["exp_avg"].abs().sum() > 0


def test_the_guards_memory_survives_its_rollback_and_the_others_come_from_the_checkpoint(
    tiny, tmp_path, monkeypatch
):
    from etude.train import rollback

    Faults(monkeypatch, 30)
    agreed, seen = rollback._agreed, []

    def watched(session):
        saved = agreed(session)
        seen.append((saved.state["driver"]["controllers"], dict(session.loop.driver.memory)))
        return saved

    monkeypatch.setattr(rollback, "_agreed", watched)
    keys = tiny.keys(control=["variance", {"spike": {"policy": "rollback"}}])
    run = finetune(output=tmp_path / "run", **keys)
    ((then, before),) = seen
    after = json.loads((run.folder / "checkpoints/00000021/state.json").read_text())["driver"]["controllers"]
    assert before["variance"] != then["variance"] == after["variance"]
    assert then["spike"] != before["spike"] == after["spike"]
    assert (
        len(after["spike"]["read"]["train_loss"]) == 29
    )  # the single example that ends an epoch does not count


def test_a_second_rollback_to_the_same_checkpoint_scales_again_and_the_last_ends_the_run(
    tiny, tmp_path, monkeypatch
):
    Faults(monkeypatch, 30, 33, 36)
    keys = tiny.keys(control=[{"spike": {"policy": "rollback", "rollbacks": 2}}], lr="5e-3 * hold()")
    run = finetune(output=tmp_path / "run", **keys)
    log = read(run.folder / "log.jsonl")
    assert log.end["reason"] == "stopped"
    raw = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    edits = [one for one in raw if one["type"] == "edit"]
    assert [one["edit"] for one in edits] == ["rollback", "scale"] * 2 + ["rollback", "stop"]
    assert [one["keep"] for one in edits[::2]] == [0, 2, 4]
    top = [max(one["rates"]["lr"]) for one in raw if one["type"] == "update" and one["k"] >= 21]
    assert top == [5e-3] * 10 + [2.5e-3] * 3 + [1.25e-3] * 3
    assert (log.end["k"], log.end["t"]) == (21, 20.125)
    assert "after 2 rollbacks the run ends at its last checkpoint" in edits[4]["reason"]
    assert run.result["best"]["checkpoint"] == "00000021"
    assert all(x.isfinite().all() for x in load_file(run.model / "model.safetensors").values())


def test_a_rollback_before_the_first_evaluation_goes_back_to_the_beginning(tiny, tmp_path, monkeypatch):
    Faults(monkeypatch, 3)
    run = finetune(output=tmp_path / "run", **tiny.keys(control=[{"spike": {"policy": "rollback"}}]))
    log = read(run.folder / "log.jsonl")
    assert (log.edits[0]["to"], log.edits[1]["at"]) == (0, 0)
    assert log.updates[-1]["t"][1] == 40.25
    assert log.end["reason"] == "finished"


def test_a_run_interrupted_after_a_rollback_goes_on_behind_it(tiny, tmp_path, monkeypatch):
    """Bit for bit as the one that was not: the rollback, its rate and the place in the data are saved."""
    keys = tiny.keys(control=[{"spike": {"policy": "rollback"}}], epochs=3)
    with monkeypatch.context() as patch:
        Faults(patch, 30)
        whole = finetune(output=tmp_path / "whole", **keys)
    tries = itertools.count(1)
    update = Loop.update

    def interrupted(loop):
        update(loop)
        if next(tries) == 34:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        Faults(patch, 30)
        patch.setattr(Loop, "update", interrupted)
        halted = finetune(output=tmp_path / "halted", **keys)
    assert halted.interrupted
    assert checkpoint.newest(halted.folder / "checkpoints").updates == 24
    finetune(halted.folder, resume=True)
    newest = [checkpoint.newest(one.folder / "checkpoints") for one in (whole, halted)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = (load_file(one.path / name) for one in newest)
        assert len(a) > 30
        assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [read(one.folder / "log.jsonl") for one in (whole, halted)]
    assert [one["rates"] for one in logs[0].updates] == [one["rates"] for one in logs[1].updates]


def test_a_skipped_update_is_in_the_log_with_its_reason(tiny, tmp_path, monkeypatch, capsys):
    Faults(monkeypatch, 30)
    run = finetune(output=tmp_path / "run", **tiny.keys(control="spike"))
    raw = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    (action,) = (one for one in raw if one["type"] == "action")
    assert (action["action"], action["k"], action["author"]) == ("discard", 30, "spike")
    assert action["reason"] == "train_loss is nan and grad_norm is nan"
    assert f"spike: {action['reason']}; the update is dropped" in capsys.readouterr().out
    log = read(run.folder / "log.jsonl")
    assert sum(one["skipped"] for one in log.updates) == 1
    assert log.updates[-1]["t"][1] == 40.25


def test_the_run_ends_with_a_good_checkpoint_where_all_updates_are_dropped(tiny, tmp_path, monkeypatch):
    """From update 21 on, where an evaluation has just been made: it is not made a second time."""
    Faults(monkeypatch, *range(21, 999))
    run = finetune(output=tmp_path / "run", **tiny.keys(control=[{"spike": {"in_a_row": 6}}]))
    log = read(run.folder / "log.jsonl")
    assert (log.end["reason"], log.end["k"]) == ("stopped", 21)
    assert [one["k"] for one in log.evals if one["split"] == "validation"] == [21]
    assert "the last of 6 updates dropped in a row" in log.edits[-1]["reason"]
    assert all(x.isfinite().all() for x in load_file(run.model / "model.safetensors").values())


@pytest.mark.parametrize("policy", ["skip", "clip", "rollback"])
def test_a_whole_run_without_anomalies_is_bit_identical_with_the_guard(
    tiny, finished, tmp_path, updates, policy
):
    run = finetune(
        output=tmp_path / "run", **tiny.keys(epochs=4, control=[{"spike": {"policy": policy, "z": 50}}])
    )
    assert updates(run.folder) == updates(finished)
    a, b = (load_file(one / "checkpoints/00000084/model.safetensors") for one in (run.folder, finished))
    assert len(a) > 30
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_single_example_that_ends_an_epoch_is_no_spike(tiny, tmp_path, monkeypatch):
    """161 examples in batches of 8: the last of them trains alone, and its loss is 50 times the others'."""
    ask = guard.Guard.ask

    def larger(self, begin, end, share, loss, norm):
        factor = 50 if share < 1 else 1
        return ask(self, begin, end, share, loss * factor, norm * factor)

    monkeypatch.setattr(guard.Guard, "ask", larger)
    run = finetune(output=tmp_path / "run", **tiny.keys(control=["spike"], epochs=2))
    log = read(run.folder / "log.jsonl")
    assert not any(one["skipped"] for one in log.updates)
    saved = json.loads(max(run.folder.glob("checkpoints/*/state.json")).read_text())
    assert len(saved["driver"]["controllers"]["spike"]["read"]["train_loss"]) == len(log.updates) - 2 == 40
