"""What `import etude` costs beside `python -c pass`. Run: .venv/bin/python benchmarks/import_time.py

Whole processes, in turns, so that both meet the same machine; medians of the paired differences.
"""

import resource
import statistics
import subprocess
import sys
import time

TURNS = 21
HEAVY = ("torch", "numpy", "jax", "pydantic", "rich")
CASES = {
    "import etude": "import etude",
    "the language": "from etude import cosine, warmup",
    "etude.Plan": "from etude import Plan",
}


def process(code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python process that runs `code`."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used


def main() -> None:
    """Print the extra milliseconds of each case."""
    extra: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(TURNS):
        nothing = process("pass")
        for name, code in CASES.items():
            wall, used = process(code)
            extra[name].append((wall - nothing[0], used - nothing[1]))
    print(f"milliseconds more than `python -c pass` (median of {TURNS} pairs): wall, CPU")
    for name, pairs in extra.items():
        wall, used = (statistics.median(pair[i] for pair in pairs) * 1e3 for i in (0, 1))
        print(f"{name:14} {wall:7.1f} {used:7.1f}")
    loaded = f"import etude, sys; print([m for m in {HEAVY} if m in sys.modules])"
    print(f"loaded by `import etude` of {', '.join(HEAVY)}:", end=" ", flush=True)
    subprocess.run([sys.executable, "-c", loaded], check=True)


if __name__ == "__main__":
    main()
