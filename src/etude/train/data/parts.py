"""Train, validation and test: how many rows each gets, and which."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from etude.errors import DataError
from etude.train.data.labels import is_whole
from etude.train.data.table import Table

PARTS = ("train", "validation", "test")


def sizes(
    split: Sequence[float], n: int, classes: int, drawn: Sequence[str], name: str
) -> dict[str, int | None]:
    """How many rows each part gets; None for train when it takes what is left."""
    counts = all(isinstance(x, int) and x > 0 for x in split)
    fractions = all(isinstance(x, float) and 0 < x < 1 for x in split) and abs(sum(split) - 1) < 1e-9
    if len(split) != 3 or not (counts or fractions):
        raise DataError(
            f"split must be three counts such as (2000, 1000, 1000) or three fractions of sum 1 such as "
            f"(0.8, 0.1, 0.1), got {tuple(split)}"
        )
    wanted = dict(zip(PARTS, split, strict=True))
    if fractions:
        return {"train": None} | {part: max(classes, round(n * wanted[part])) for part in drawn}
    sizes = {part: int(wanted[part]) for part in ("train", *drawn)}
    shown = "/".join(map(str, sizes.values()))
    if sum(sizes.values()) > n:
        raise DataError(f"{name}: a split of {shown} needs more than its {n} rows")
    if min(sizes.values()) < classes:
        raise DataError(f"{name}: a split of {shown} has a part too small for {classes} classes")
    return dict(sizes)


def refuse_rare(counts: Counter[int], parts: int, names: tuple[str, ...] | None, table: Table) -> None:
    """Raise `DataError` for a class with fewer examples than the parts that it must be in."""
    rare = sorted(c for c, n in counts.items() if n < parts)
    if not rare:
        return
    if names is None:
        raise DataError(
            f"{table.name} has {len(table.texts)} rows; drawing {parts} parts needs at least {parts}"
        )
    shown = ", ".join(f"{names[c]!r} has {counts[c]}" for c in rare[:5])
    more = f" and {len(rare) - 5} more classes have too few" if len(rare) > 5 else ""
    number = "; if the label is a quantity, write task=regression" if all(map(is_whole, names)) else ""
    raise DataError(
        f"{table.name}: a class needs at least {parts} examples, one for each part drawn; {shown}{more}: "
        f"add examples, join such classes, or remove them{number}"
    )


def draw(classes: Sequence[int], sizes: Mapping[str, int | None], seed: int) -> dict[str, list[int]]:
    """Rows for each part, every class in its proportion; test first, so that no other size changes it."""
    rng = random.Random(seed)
    pools: dict[int, list[int]] = {c: [] for c in sorted(set(classes))}
    for i, c in enumerate(classes):
        pools[c].append(i)
    for pool in pools.values():
        rng.shuffle(pool)
    drawn = {}
    for later, (part, size) in reversed(list(enumerate(sizes.items()))):
        left = [len(pool) for pool in pools.values()]
        quotas = left if size is None else _quotas(left, size, later)
        drawn[part] = [i for pool, n in zip(pools.values(), quotas, strict=True) for i in pool[:n]]
        for pool, n in zip(pools.values(), quotas, strict=True):
            del pool[:n]
        rng.shuffle(drawn[part])
    return drawn


def _quotas(left: Sequence[int], size: int, later: int) -> list[int]:
    """`size` shared in proportion to `left` by largest remainders; 1 or more each, `later` or more stay."""
    exact = [size * n / sum(left) for n in left]
    quotas = [min(max(1, int(x)), n - later) for x, n in zip(exact, left, strict=True)]
    while (short := size - sum(quotas)) != 0:
        sign = 1 if short > 0 else -1
        able = [i for i, q in enumerate(quotas) if (q < left[i] - later if sign > 0 else q > 1)]
        if not able:
            break
        quotas[max(able, key=lambda i: sign * (exact[i] - quotas[i]))] += sign
    return quotas


def note(split: Sequence[float], drawn: Sequence[str], regression: bool, seed: int) -> str:
    """How the parts came about, in words."""
    amounts = {
        part: f"{x:,}" if isinstance(x, int) else f"{100 * x:g}" for part, x in zip(PARTS, split, strict=True)
    }
    how = f"{'random' if regression else 'stratified'}, seed {seed}"
    if len(drawn) == 2:
        return f"split {'/'.join(amounts.values())}, {how}"
    amount = amounts[drawn[0]] + ("" if isinstance(split[0], int) else "%")
    return f"{drawn[0]} ({amount}) drawn from train, {how}; the other part as given"
