"""What the tests of interrupted runs share."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from etude.report.log import read
from etude.train.finetuning import finetune
from etude.train.loop import Loop
from etude.train.order import Order


@pytest.fixture
def interrupt_at(monkeypatch):
    """Call it with the number of an update after which, or within which twice, Ctrl-C is pressed."""
    update, before = Loop.update, signal.getsignal(signal.SIGINT)

    def arrange(k: int, times: int = 1) -> None:
        def interrupted(loop: Loop) -> None:
            if times == 1:
                update(loop)
            if loop.clock.updates == k:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
            if times > 1:
                update(loop)

        monkeypatch.setattr(Loop, "update", interrupted)

    yield arrange
    assert signal.getsignal(signal.SIGINT) == before


@pytest.fixture
def drawn(monkeypatch):
    """Every example number that any loop draws, in order."""
    draw, seen = Order.draw, []

    def watched(order: Order, count: int) -> list[int]:
        chosen = draw(order, count)
        seen.extend(chosen)
        return chosen

    monkeypatch.setattr(Order, "draw", watched)
    return seen


@pytest.fixture
def loops(monkeypatch):
    """The loops of the runs to come."""
    from etude.train import session

    make, made = session.make_loop, []

    def watched(prepared):
        made.append(make(prepared))
        return made[-1]

    monkeypatch.setattr(session, "make_loop", watched)
    return made


@pytest.fixture
def halted(tiny, tmp_path, interrupt_at) -> Path:
    """A run of 42 updates that was interrupted after 10."""
    interrupt_at(10)
    folder = finetune(output=tmp_path / "run", **tiny.keys()).folder
    interrupt_at(-1)
    return folder


@pytest.fixture(scope="session")
def updates() -> Callable[[Path], list[tuple[str, ...]]]:
    """What every update of a run did: number, interval, loss, norm, rates."""
    keys = ("k", "t", "loss", "grad_norm", "rates", "skipped")
    return lambda run: [tuple(str(one[key]) for key in keys) for one in read(run / "log.jsonl").updates]
