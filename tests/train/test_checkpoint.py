"""Checkpoints: complete or not there, whatever is killed, full, torn or planted; and state goes by name."""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from etude.errors import CheckpointError, EtudeWarning
from etude.train.checkpoint import newest, prune, read, remove_after, save
from etude.train.manifest import seal
from etude.train.moments import named_parameters, read_moments, write_moments


class Weights(nn.Module):
    """A model that saves itself as those of transformers do."""

    def __init__(self, value: float = 0.0, size: int = 1000):
        super().__init__()
        self.w = nn.Parameter(torch.full((size,), float(value)))

    def save_pretrained(self, folder: Path) -> None:
        save_file({"w": self.w.detach()}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")


def optimizer_of(model: nn.Module, kind=torch.optim.AdamW, **options):
    names, params = zip(*model.named_parameters(), strict=True)
    return kind([{"params": list(params), "param_names": list(names)}], lr=0.1, **options)


def stepped(model: nn.Module, optimizer):
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return optimizer


def saved(folder: Path, k: int, value: float | None = None, **more):
    model = Weights(k if value is None else value)
    state = {"clock": {"updates": k}, "value": value, **more}
    rng = {"torch/0": torch.get_rng_state()}
    return save(folder, k, model=model, optimizer=stepped(model, optimizer_of(model)), rng=rng, state=state)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_every_file_of_a_checkpoint_is_as_readable_as_any_new_file(tmp_path):
    new = tmp_path / "new"
    new.touch()
    modes = {path.name: path.stat().st_mode for path in saved(tmp_path, 1).path.iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {new.stat().st_mode}


def test_a_checkpoint_holds_all_of_its_parts_and_reads_back(tmp_path):
    torch.manual_seed(3)
    made = saved(tmp_path / "checkpoints", 124)
    assert (made.name, made.path) == ("00000124", tmp_path / "checkpoints" / "00000124")
    parts = ["config.json", "model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"]
    assert names(made.path) == sorted([*parts, "manifest.json"])
    found = newest(tmp_path / "checkpoints")
    assert found == made == read(made.path)
    torch.manual_seed(3)
    assert torch.equal(found.rng()["torch/0"], torch.get_rng_state())
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["etude"] == 1
    assert manifest["files"].keys() == set(parts)
    assert names(tmp_path / "checkpoints") == ["00000124"]


def test_a_real_model_and_tokenizer_come_back_from_the_folder(tmp_path):
    from transformers import AutoModel, BertConfig, BertModel

    model = BertModel(BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                 intermediate_size=8, max_position_embeddings=8))  # fmt: skip
    optimizer = stepped(model, optimizer_of(model))
    made = save(tmp_path, 1, model=model, optimizer=optimizer, state={})
    loaded = AutoModel.from_pretrained(made.path)
    assert len(loaded.state_dict()) > 10
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_the_newest_is_the_one_with_the_most_updates(tmp_path):
    assert newest(tmp_path / "nowhere") is None
    for k in (5, 100, 20):
        saved(tmp_path, k)
    assert newest(tmp_path).updates == 100


def planted(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def listed(name: str):
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = {"bytes": 0, "xxh3": ""}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return damage


def flipped(folder: Path) -> None:
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, r"model\.safetensors has 100 of \d+ bytes"),
        (flipped, r"the bytes of model\.safetensors are not those"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), r"no manifest\.json, so it was never finished"),
        (planted("manifest.json", '{"etude": 1, '), r"manifest\.json cannot be read"),
        (planted("manifest.json", "[]"), "no JSON object"),
        (planted("manifest.json", '{"etude": 2, "files": {}}'), "does not know"),
        (listed("../../secret"), r"wrong entry for '\.\./\.\./secret'"),
        (planted("training_args.bin", ""), "no pickle and reads none"),
        (listed("optimizer.pt"), "no pickle and reads none"),
    ],
)
def test_a_broken_checkpoint_is_skipped_with_a_warning_that_says_why(tmp_path, damage, says):
    saved(tmp_path, 1)
    made = saved(tmp_path, 2)
    damage(made.path)
    with pytest.warns(EtudeWarning, match=rf"00000002 .*{says}.*; it is skipped"):
        assert newest(tmp_path).updates == 1
    with pytest.raises(CheckpointError, match=says):
        read(made.path)


def test_a_state_that_is_not_strict_json_is_not_believed(tmp_path):
    made = saved(tmp_path, 1)
    (made.path / "state.json").write_text('{"best": NaN}')
    seal(made.path)
    with pytest.warns(EtudeWarning, match="NaN is not JSON"):
        assert newest(tmp_path) is None


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("boom",))


def test_a_pickle_bomb_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "c", 1)
    bombed = saved(tmp_path / "c", 2).path
    for name in ("optimizer.safetensors", "state.json", "rng.safetensors", "optimizer.pt"):
        (bombed / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.warns(EtudeWarning):
        assert newest(tmp_path / "c").updates == 1
    (bombed / "optimizer.pt").unlink()
    seal(bombed)  # even if it is vouched for
    with pytest.warns(EtudeWarning):
        assert newest(tmp_path / "c").updates == 1
    with pytest.raises(Exception, match=r"[Hh]eader"):
        read_moments(bombed / "optimizer.safetensors", optimizer_of(Weights()))
    assert not Path("boom").exists()


def test_a_model_that_pickles_itself_is_refused(tmp_path):
    model = Weights()
    model.save_pretrained = lambda folder: torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"holds no pickle, and pytorch_model\.bin is one"):
        save(tmp_path, 1, model=model, state={})
    assert names(tmp_path) == []


@pytest.mark.parametrize("state", [{"best": float("nan")}, {"best": float("inf")}, {"best": torch.ones(1)}])
def test_a_state_that_json_cannot_say_is_refused_before_anything_is_written(tmp_path, state):
    saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match="not plain JSON"):
        save(tmp_path, 2, model=Weights(), state=state)
    assert names(tmp_path) == ["00000001"]


class Full(Weights):
    """Puts one file of its checkpoint on a disk that is always full."""

    def __init__(self, file: str):
        super().__init__()
        self.file = file

    def save_pretrained(self, folder: Path) -> None:
        (folder / self.file).symlink_to("/dev/full")
        super().save_pretrained(folder)


@pytest.mark.parametrize("file", ["config.json", "state.json", "manifest.json"])
def test_a_full_disk_leaves_the_checkpoints_before_as_they_were(tmp_path, file):
    before = saved(tmp_path / "run" / "checkpoints", 1)
    with pytest.raises(CheckpointError, match=r"disk is full: .*00000002.*free some space.*--resume .*run"):
        save(tmp_path / "run" / "checkpoints", 2, model=Full(file), state={})
    assert names(before.path.parent) == ["00000001"]
    assert newest(before.path.parent) == before


def test_a_disk_that_fills_while_saving(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk]).returncode:
        pytest.skip("needs to mount a small disk")
    try:
        before = saved(disk, 1)
        for size in (
            200_000,
            300_000,
            600_000,
        ):  # 0.8 MB of weights and 1.6 of moments; the last: 2.4 of weights
            model = Weights(size=size)
            with pytest.raises(CheckpointError, match="the disk is full"):
                save(disk, 2, model=model, optimizer=stepped(model, optimizer_of(model)), state={})
            assert names(disk) == ["00000001"]
            assert newest(disk) == before
        assert saved(disk, 3).updates == newest(disk).updates
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_refuses_is_one_clear_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"could not be saved: .*Not a directory"):
        saved(tmp_path / "file" / "checkpoints", 1)


def test_another_error_in_a_save_leaves_nothing_behind_and_is_not_hidden(tmp_path):
    model = Weights()
    model.save_pretrained = lambda folder: ((folder / "half").write_text("") and 1 / 0) or 1 / 0
    with pytest.raises(ZeroDivisionError):
        save(tmp_path, 1, model=model, state={})
    assert names(tmp_path) == []


def in_child(work) -> tuple[int, int]:
    """Run `work(report)` in a child that can be killed; its pid and the pipe that it reports to."""
    end, other = os.pipe()
    child = os.fork()
    if child:
        os.close(other)
        return child, end
    try:
        torch.set_num_threads(1)
        work(lambda number: os.write(other, number.to_bytes(4)))
    finally:
        os._exit(1)


def killed(child: int, end: int, after: float, first: bool) -> list[int]:
    """Kill a child after some seconds, counted from its `first` report if so; all that it reported."""
    reported = os.read(end, 4) if first else b""
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(end, 4096):
        reported += more
    os.close(end)
    return [int.from_bytes(reported[i : i + 4]) for i in range(0, len(reported), 4)]


@pytest.fixture
def memory():
    """A folder in memory, where saves take milliseconds, so that many can be killed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def duration(work) -> float:
    """Seconds that `work` takes when all that it imports is there."""
    work()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_a_kill_at_any_moment_leaves_a_complete_checkpoint_not_older_than_the_last_reported(memory):
    rng, k, inside = random.Random(0), 1, 0
    one_save = duration(lambda: saved(memory, 1))

    def train(report):
        for update in range(k + 1, k + 10_000):
            saved(memory, update)
            report(update)
            prune(memory, keep=2)

    for i in range(50):
        reported = killed(*in_child(train), rng.uniform(0, 2 * one_save), first=i % 2 == 1)
        inside += any(name.startswith(".") for name in names(memory))
        found = newest(memory)  # a warning of a broken one would be an error here
        assert found.updates >= max([k, *reported])
        assert found.state["clock"]["updates"] == found.updates
        optimizer = optimizer_of(Weights())
        found.load_optimizer(optimizer)
        assert optimizer.state[optimizer.param_groups[0]["params"][0]]["step"] == 1
        k = found.updates
    assert k >= 25
    assert inside > 5, "the kills did not fall into saves"


def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_old_or_the_new_one(memory):
    rng, value = random.Random(0), 1
    one_save = duration(lambda: saved(memory, 7, value=1))

    def train(report):
        for i in range(value + 1, value + 10_000):
            saved(memory, 7, value=i)
            report(i)

    for i in range(20):
        reported = killed(*in_child(train), rng.uniform(0, 2 * one_save), first=i % 2 == 1)
        found = newest(memory)
        assert found.state["value"] >= max([value, *reported])
        assert load_file(found.path / "model.safetensors")["w"][0] != 0
        value = found.state["value"]
    assert value >= 10


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("which", [1, 2])
def test_a_kill_at_either_rename_of_a_replacement_leaves_the_old_or_the_new_one(memory, which, after):
    saved(memory, 7, value=1)
    rename, calls = os.rename, []

    def killing(*paths):
        calls.append(paths)
        for moment in (0, 1):
            if len(calls) == which and moment == after:
                os.kill(os.getpid(), signal.SIGKILL)
            if not moment:
                rename(*paths)

    def train(report):
        os.rename = killing
        saved(memory, 7, value=2)

    child, end = in_child(train)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.close(end)
    assert newest(memory).state["value"] == (2 if (which, after) == (2, 1) else 1)


def test_a_kill_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path):
    saved(tmp_path, 7, value=1)
    os.rename(tmp_path / "00000007", tmp_path / ".00000007.old")
    assert newest(tmp_path).state["value"] == 1
    saved(tmp_path, 8)
    assert names(tmp_path) == ["00000007", "00000008"]
    shutil.copytree(tmp_path / "00000007", tmp_path / ".00000007.old")
    assert newest(tmp_path).updates == 8
    saved(tmp_path, 7, value=2)
    assert names(tmp_path) == ["00000007", "00000008"]
    assert read(tmp_path / "00000007").state["value"] == 2


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".00000003.tmp" / "deep").mkdir(parents=True)
    (tmp_path / ".00000003.tmp" / "model.safetensors").touch()
    assert newest(tmp_path) is None
    saved(tmp_path, 4)
    assert names(tmp_path) == ["00000004"]


def test_pruning_keeps_the_newest_complete_ones_and_the_best(tmp_path):
    for k in range(1, 8):
        saved(tmp_path, k)
    (tmp_path / "00000006" / "model.safetensors").unlink()
    (tmp_path / "notes.txt").touch()
    prune(tmp_path, keep=2, best="00000002")
    assert names(tmp_path) == ["00000002", "00000005", "00000007", "notes.txt"]


def test_pruning_keeps_the_best_that_a_kept_one_knows_of(tmp_path):
    """From 3 a run may go on, and its best is 1."""
    for k, best in ((1, 1), (2, 1), (3, 1), (4, 4)):
        saved(tmp_path, k, best={"checkpoint": f"{best:08d}"})
    prune(tmp_path, keep=2, best="00000004")
    assert names(tmp_path) == ["00000001", "00000003", "00000004"]


def test_an_interrupts_checkpoint_takes_no_place_of_a_planned_one(tmp_path):
    for k in range(1, 6):
        saved(tmp_path, k, interrupted=k in (2, 5))
    prune(tmp_path, keep=1)
    assert names(tmp_path) == ["00000004", "00000005"]
    assert newest(tmp_path).updates == 5
    assert newest(tmp_path, planned=True).updates == 4
    shutil.rmtree(tmp_path / "00000004")
    assert newest(tmp_path, planned=True).updates == 5, "there is no other"


def test_the_future_that_a_resumed_run_has_left_is_removed(tmp_path):
    for k in range(1, 5):
        saved(tmp_path, k)
    remove_after(tmp_path, 2)
    assert names(tmp_path) == ["00000001", "00000002"]


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read(tmp_path / "00000001")
    (tmp_path / "model").mkdir()
    with pytest.raises(CheckpointError, match="not a number of updates such as 00000124"):
        read(tmp_path / "model")


# ---- the optimizer's state ---------------------------------------------------------------------------------


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))  # two weights of the same shape


def states(optimizer) -> dict[str, dict]:
    return {
        name: optimizer.state[p]
        for name, (p, _) in named_parameters(optimizer).items()
        if p in optimizer.state
    }


KINDS = [
    (torch.optim.AdamW, {}), (torch.optim.AdamW, {"fused": True, "amsgrad": True}), (torch.optim.Adagrad, {}),
    (torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {}), (torch.optim.RMSprop, {"centered": True}),
    (torch.optim.NAdam, {}), (torch.optim.RAdam, {}), (torch.optim.Adafactor, {}), (torch.optim.ASGD, {}),
    (torch.optim.Rprop, {}), (torch.optim.Adadelta, {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_any_optimizer_goes_on_bit_for_bit(tmp_path, kind, options):
    model, other = net(), net()
    optimizer, loaded = optimizer_of(model, kind, **options), optimizer_of(other, kind, **options)
    for _ in range(3):
        stepped(model, optimizer)
    write_moments(tmp_path / "o.safetensors", optimizer)
    if options or kind is not torch.optim.SGD:
        assert len(load_file(tmp_path / "o.safetensors")) >= 4
    other.load_state_dict(model.state_dict())
    read_moments(tmp_path / "o.safetensors", loaded)
    for m, o in ((model, optimizer), (other, loaded)):
        torch.manual_seed(1)
        stepped(m, o)
        stepped(m, o)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_moments_follow_the_name_through_other_groups_and_another_order(tmp_path):
    model = net()
    optimizer = stepped(model, optimizer_of(model))
    write_moments(tmp_path / "o.safetensors", optimizer)
    assert set(load_file(tmp_path / "o.safetensors")) == {
        f"{key}/{name}" for key in ("exp_avg", "exp_avg_sq", "step") for name, _ in model.named_parameters()
    }
    again = dict(net().named_parameters())
    order = ["1.weight", "0.bias", "0.weight", "1.bias"]
    groups = [{"params": [again[n] for n in part], "param_names": part} for part in (order[:1], order[1:])]
    regrouped = torch.optim.AdamW(groups)
    read_moments(tmp_path / "o.safetensors", regrouped)
    for name, saved_state in states(optimizer).items():
        assert torch.equal(states(regrouped)[name]["exp_avg"], saved_state["exp_avg"])
    assert not torch.equal(states(regrouped)["0.weight"]["exp_avg"], states(regrouped)["1.weight"]["exp_avg"])


def test_names_that_one_side_lacks_are_listed_and_nothing_is_changed(tmp_path):
    model = net()
    write_moments(tmp_path / "o.safetensors", stepped(model, optimizer_of(model)))
    more, less, wider = nn.Sequential(*net(), nn.Linear(4, 4)), net()[:1], net()
    wider[1] = nn.Linear(8, 4)
    for other, says in (
        (more, r"2 of 6 parameters are only in the optimizer: 2\.bias, 2\.weight"),
        (less, r"2 of 2 parameters are only in the checkpoint: 1\.bias, 1\.weight"),
        (wider, r"of another shape: 1\.weight \(\[4, 4\] in the checkpoint, \[4, 8\] in the model\)"),
    ):
        optimizer = stepped(other, optimizer_of(other))
        before = {name: state["exp_avg"].clone() for name, state in states(optimizer).items()}
        assert before
        with pytest.raises(CheckpointError, match=says):
            read_moments(tmp_path / "o.safetensors", optimizer)
        for name, state in states(optimizer).items():
            assert torch.equal(state["exp_avg"], before[name])


def test_a_parameter_that_was_frozen_has_no_state_and_is_not_missed(tmp_path):
    model, other = net(), net()
    optimizer = optimizer_of(model)
    model[0].requires_grad_(False)
    model[1](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    write_moments(tmp_path / "o.safetensors", optimizer)
    loaded = optimizer_of(other)
    read_moments(tmp_path / "o.safetensors", loaded)
    assert set(states(loaded)) == {"1.weight", "1.bias"}


def test_tied_weights_are_saved_once_and_come_back(tmp_path):
    def tied():
        model = net()
        model[1].weight = model[0].weight
        return model

    model, other = tied(), tied()
    optimizer = stepped(model, optimizer_of(model))
    write_moments(tmp_path / "o.safetensors", optimizer)
    assert sorted(load_file(tmp_path / "o.safetensors")) == sorted(
        f"{key}/{name}"
        for key in ("exp_avg", "exp_avg_sq", "step")
        for name in ("0.weight", "0.bias", "1.bias")
    )
    loaded = optimizer_of(other)
    read_moments(tmp_path / "o.safetensors", loaded)
    assert torch.equal(loaded.state[other[1].weight]["exp_avg"], optimizer.state[model[0].weight]["exp_avg"])


def test_an_optimizer_without_names_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"group 0 .* write|group 0 .*plan\.torch_groups\(model\)"):
        write_moments(tmp_path / "o.safetensors", torch.optim.SGD(net().parameters(), lr=0.1))
    twice = [{"params": [p], "param_names": ["w"]} for p in net()[0].parameters()]
    with pytest.raises(CheckpointError, match="two parameters with the name w"):
        write_moments(tmp_path / "o.safetensors", torch.optim.SGD(twice, lr=0.1))


def test_what_is_loaded_is_a_copy_and_its_file_can_go(tmp_path):
    model = net()
    write_moments(tmp_path / "o.safetensors", stepped(model, optimizer_of(model)))
    loaded = optimizer_of(net())
    read_moments(tmp_path / "o.safetensors", loaded)
    assert "o.safetensors" not in Path("/proc/self/maps").read_text()
