"""What the whole curve of a long run costs in numpy. Run: .venv/bin/python benchmarks/curve.py

One million updates, against one pass of np.cos over blocks of the same array; the two take turns in one
process with one thread, medians of the ratios. Also: memory beyond the result, and how far the numbers are
from those of single times.
"""

import statistics
import time
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

from etude import parse
from etude.core.vector import BLOCK

UPDATES, TURNS = 1_000_000, 41
TEXTS = [
    "2e-5 * (warmup(0.1) >> cosine(to=0.01))",
    "2e-5 * (warmup(0.1) >> linear())",
    "3e-4 * (warmup(500) >> hold() >> sqrt(0.2))",
    "1e-3 * poly(power=0.9)",
    "1e-3 * exp(to=0.001)",
    "1e-3 * tanh()",
]


def seconds(call) -> float:
    """Process time: with one thread it does not see who else is on the machine."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Print a row for each schedule."""
    times = np.arange(UPDATES)
    floats, out = times.astype(float), np.empty(UPDATES)

    def floor() -> None:
        for begin in range(0, UPDATES, BLOCK):
            np.cos(floats[begin : begin + BLOCK], out=out[begin : begin + BLOCK])

    table = Table("1,000,000 updates", "× one np.cos pass", "extra memory, KB", "largest difference / peak")
    for text in TEXTS:
        curve = parse(text).over(UPDATES)
        ratios = [seconds(lambda curve=curve: curve(times)) / seconds(floor) for _ in range(TURNS)]
        tracemalloc.start()
        values = curve(times)
        extra = (tracemalloc.get_traced_memory()[1] - values.nbytes) / 1000
        tracemalloc.stop()
        asked = range(0, UPDATES, 37)
        single = np.array([curve(k) for k in asked])
        error = np.abs(values[:: asked.step] - single).max() / curve.peak
        table.add_row(text, f"{statistics.median(ratios):.2f}", f"{extra:.0f}", f"{error:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
