"""What étude adds to an update of the default job. Run: .venv/bin/python benchmarks/overhead.py

Two loops over the same model, data and optimizer take turns in one process: étude's own (driver, records,
log file, progress) and the same stripped bare (draw, forward, backward, clip, step). Their ratio is as noisy
as the machine; so étude's own parts are also timed alone, the model's work taken out, and set against the
bare update. One thread, CPU time; medians over the turns.
"""

import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from rich.console import Console

from etude.report.log import Log
from etude.report.terminal import Progress
from etude.train.folder import RunFolder
from etude.train.loop import Loop
from etude.train.recipe import read
from etude.train.session import Session, make_loop
from etude.train.setup import setup

TURNS, UPDATES = 12, 10


class WithoutModel(Loop):
    """The loop with the model's work taken out."""

    def _backward(self, chosen):
        return torch.zeros(())

    def _clipped_norm(self):
        return torch.zeros(())


def bare(loop: Loop) -> None:
    """One update without driver, clock and records."""
    chosen = loop.order.draw(loop.global_batch)
    loss = loop.losses(loop.model, chosen).sum() / len(chosen)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(loop.parameters, 1.0)
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)


def timed(call, times: int) -> float:
    """Seconds of CPU per call: with one thread this does not see who else is on the machine."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def main() -> None:
    """Print the ratio of the two loops and the share of étude's own parts."""
    torch.set_num_threads(1)
    prepared = setup(read(overrides=["threads=1", "updates=100000"])[0])
    with tempfile.TemporaryDirectory() as name, (Path(name) / "terminal").open("w") as terminal:
        folder = RunFolder(Path(name))
        loop = make_loop(prepared)
        session = Session(prepared, loop, folder, Log(folder.log), Progress(Console(file=terminal)))
        session.progress.start(loop.driver.total, 0.0, loop.global_batch)
        empty = WithoutModel(**{field: getattr(loop, field) for field in loop.__dataclass_fields__})
        empty.optimizer = SimpleNamespace(
            param_groups=loop.optimizer.param_groups, step=lambda: None, zero_grad=lambda set_to_none: None
        )
        books = Session(prepared, empty, folder, session.log, session.progress)

        def etude() -> None:
            loop.update()
            if loop.clock.updates % prepared.recipe.log_every == 0:
                session.flush()

        def bookkeeping() -> None:
            empty.update()
            if empty.clock.updates % prepared.recipe.log_every == 0:
                books.flush()

        timed(lambda: bare(loop), UPDATES)  # the first updates of a process allocate
        plain, ratios, own = [], [], []
        for turn in range(TURNS):
            first, second = (etude, lambda: bare(loop)) if turn % 2 else (lambda: bare(loop), etude)
            epoch, position = loop.order.epoch, loop.order.position
            one = timed(first, UPDATES)
            loop.order.epoch, loop.order.position = epoch, position  # the same texts: lengths differ
            two = timed(second, UPDATES)
            mine, theirs = (one, two) if first is etude else (two, one)
            plain.append(theirs)
            ratios.append(mine / theirs)
            own.append(timed(bookkeeping, 100))
        session.log.close()
    update, books_time = statistics.median(plain), statistics.median(own)
    print(f"bare update                   {update * 1e3:9.1f} ms, median of {TURNS} turns of {UPDATES}")
    print(f"étude's loop / bare loop      {statistics.median(ratios):9.4f}, median of the turns' ratios")
    print(f"étude's own parts, an update  {books_time * 1e6:9.1f} µs")
    print(f"their share of a bare update  {books_time / update:9.3%}, the bar is 2%")


if __name__ == "__main__":
    main()
