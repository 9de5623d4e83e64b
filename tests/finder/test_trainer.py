"""`etude.find(trainer)`: the range test on what a transformers Trainer would train, and with."""

import gc
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import torch._dynamo  # loaded before the fork: each process would take seconds for it
from accelerate.state import AcceleratorState
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import etude
from etude.errors import EtudeError
from etude.finder.find import find
from etude.finder.finding import Finding

KEYS = {"points": 12, "start": 1e-5, "to": 1e-2, "seeds": 1}


class Watched(Trainer):
    """Notes the rates of its optimizer at every batch; `hook` is called after every update."""

    hook = None

    def __init__(self, **keys):
        self.used = []
        super().__init__(**keys)

    def create_optimizer(self, *args):
        optimizer = super().create_optimizer(*args)
        if self.hook is not None:
            optimizer.register_step_post_hook(self.hook)
        return optimizer

    def compute_loss(self, *args, **keys):
        self.used.append([group["lr"] for group in self.optimizer.param_groups])
        return super().compute_loss(*args, **keys)


def build(folder, **changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=50, max_position_embeddings=16, initializer_range=0.1, **sizes)
    args = {
        "per_device_train_batch_size": 4, "learning_rate": 1e-3, "max_steps": 6, "report_to": [],
        "use_cpu": True, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    random = torch.Generator().manual_seed(1)
    data = [
        {"input_ids": torch.randint(0, 50, (6,), generator=random), "labels": torch.tensor(i % 2)}
        for i in range(24)
    ]
    return Watched(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(str(folder), **args | changes),
        train_dataset=data,
        eval_dataset=data[:6],
    )


def losses_of(trainer):
    trainer.train()
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def digest(model):
    tensors = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return hashlib.sha256(tensors + torch.get_rng_state().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("attached", [False, True])
def test_a_trainer_trains_as_if_it_had_not_been_tested(tmp_path, attached):
    losses = []
    for tested in (False, True):
        trainer = build(tmp_path, gradient_accumulation_steps=2)
        if attached:
            etude.attach(trainer, "1e-3 * cosine()", layer_decay=0.5, head=10)
        if tested:
            before = digest(trainer.model)
            found = find(trainer, **KEYS)
            assert digest(trainer.model) == before
            assert trainer.optimizer is None
            assert trainer.accelerator._models == trainer.accelerator._dataloaders == []
            assert len(found.losses) == 12
            assert len(trainer.used) == 24  # two batches an update
            first, last = trainer.used[0], trainer.used[-1]
            ratios = {0.25, 0.5, 1.0, 10.0} if attached else {1.0}
            assert {round(rate / 1e-2, 9) for rate in last} == ratios
            assert {round(rate / 1e-5, 9) for rate in first} == ratios
        losses.append(losses_of(trainer))
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_it_is_the_trainers_own_path(tmp_path):
    """Its optimizer with its options, its clipping, its precision, its own loss."""
    trainer = build(tmp_path, optim="sgd", max_grad_norm=1e-3, bf16=True, label_smoothing_factor=0.1)
    kinds, model = [], trainer.model
    model.classifier.register_forward_hook(lambda module, given, out: kinds.append(out.dtype))
    moved = [parameter.detach().clone() for parameter in model.parameters()]
    steps = []

    def watch(optimizer, *_):
        new = [parameter.detach().clone() for parameter in model.parameters()]
        change = sum((a - b).square().sum() for a, b in zip(new, moved, strict=True)).sqrt()
        steps.append((type(optimizer).__name__, change.item() / optimizer.param_groups[0]["lr"]))
        moved[:] = new

    trainer.hook = watch
    found = find(trainer, points=12, start=0.1, to=10.0, seeds=2, held_out=trainer.get_eval_dataloader())
    assert {kind for kind, _ in steps} == {"SGD"}
    assert [size for _, size in steps[:12]] == pytest.approx([1e-3] * 12, rel=0.05)
    assert set(kinds) == {torch.bfloat16}
    assert len(found.curves) == 2
    assert len(found.held_out) == 12


@pytest.mark.parametrize(
    ("changes", "told", "epochs"),
    [
        ({"max_steps": 12, "gradient_accumulation_steps": 2}, None, 4),  # 6 batches, 3 updates an epoch
        ({"max_steps": -1, "num_train_epochs": 5}, None, 5),
        ({"max_steps": 6}, None, 1),
        ({"max_steps": 9}, 2, 2),
    ],
)
def test_the_range_is_for_the_epochs_of_the_trainer(tmp_path, monkeypatch, changes, told, epochs):
    judged = []
    of = Finding.of
    monkeypatch.setattr(
        Finding, "of", lambda *given, **keys: judged.append(keys["epochs"]) or of(*given, **keys)
    )
    find(build(tmp_path, **changes), **KEYS, epochs=told)
    assert judged == [epochs]


def test_what_a_trainer_decides_is_not_said_twice(tmp_path):
    with pytest.raises(EtudeError, match="loss=…"):
        find(build(tmp_path), loss=torch.nn.CrossEntropyLoss())
    with pytest.raises(EtudeError, match="find\\(model, loader\\)"):
        find(torch.nn.Linear(2, 2))


def work(rank, store, out, folder):
    """One of two processes: train as it is, and after a test."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    Path(f"{out}-{rank}.json").write_text(json.dumps(together(folder)))
    gc.collect()  # a wrapper that outlives its process group may wait for it without end
    torch.distributed.destroy_process_group()


def together(folder):
    AcceleratorState._reset_state(True)
    result = {}
    for tested in (False, True):
        trainer = build(folder, per_device_train_batch_size=2, ddp_backend="gloo", bf16=True)
        if tested:
            found = find(trainer, **KEYS)
            result |= {"found": found.losses, "rate": found.rate}
            assert "forward" not in vars(trainer.model)  # that of accelerate's precision
        result[str(tested)] = losses_of(trainer)
    return result


@pytest.mark.timeout(90)
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_two_processes_of_a_trainer(processes, tmp_path):
    processes(work, str(tmp_path / "store"), str(tmp_path / "out"), str(tmp_path))
    first, second = (json.loads((tmp_path / f"out-{rank}.json").read_text()) for rank in range(2))
    assert first["found"] == second["found"]
    assert first["rate"] == second["rate"]
    for one in (first, second):
        assert one["True"] == one["False"]
        assert len(one["found"]) == 12
