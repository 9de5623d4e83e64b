"""The functions that read the tables: once for Python's numbers, once for arrays that may be traced."""

from etude.export.tables import Tables

PIECE = '''
def piece(path, k):
    """The row of a path that is in force in update k."""
    return next(row for row in reversed(path) if row[0] <= k)
'''

VALUE = '''
def value(peak_and_paths, k):
    """What a hyper-parameter is in update k: its peak times the level of each path."""
    result, *paths = peak_and_paths
    for path in paths:
        _, begin, length, a, b, formula = piece(path, k)
        e = min(TIME - begin, length)
        result *= formula(a, b, e / length, e)
    return result
'''

TRAINS = '''
def trains(peak_and_paths, k):
    """Whether a group trains in update k at all."""
    return all(piece(path, k)[-1] is not frozen for path in peak_and_paths[1:])
'''

ARRAY_VALUE = '''
def value(peak_and_paths, k):
    """What a hyper-parameter is in update k, also a traced one: its peak times the level of each path."""
    peak, *paths = peak_and_paths
    PREPARED
    for path in paths:
        level = path[0][3]
        for first, begin, length, a, b, formula in path:
            e = XP.clip(TIME, 0.0, length)
            level = XP.where(k < first, level, formula(a, b, e / length, e))
        result = result * level
    return result
'''

ARRAY_TRAINS = '''
def trains(peak_and_paths, k):
    """Whether a group trains in update k at all, also in a traced one."""
    result = True
    for path in peak_and_paths[1:]:
        going = True
        for first, *_, formula in path:
            going = XP.where(k < first, going, formula is not frozen)
        result = XP.logical_and(result, going)
    return result
'''

SPELT = '''
def spelt(names):
    """Each name with its numbers counted among neighbours: `dense_7/kernel` is `dense.0.kernel` if alone."""
    pattern = r"([^./]+?)(?:[._/](\\d+))?(?:[./]|$)"
    parts = {name: [(base, int(n or 0)) for base, n in re.findall(pattern, name)] for name in names}
    known = {}
    for path in parts.values():
        for i, (base, n) in enumerate(path):
            known.setdefault((*path[:i], base), set()).add(n)
    return {
        name: tuple((base, sorted(known[(*path[:i], base)]).index(n)) for i, (base, n) in enumerate(path))
        for name, path in parts.items()
    }


PLANNED = spelt([name for names in GROUPS.values() for name in names])
GROUP_OF = {PLANNED[name]: group for group, names in GROUPS.items() for name in names}
'''


def numbers(tables: Tables) -> str:
    """`value` for Python's numbers; also `trains`, where a group is ever frozen."""
    value = VALUE.replace("TIME", f"k + {tables.tick!r}" if tables.tick else "k")
    return "\n\n\n".join(part.strip() for part in (PIECE, value, *([TRAINS] if tables.freezes else [])))


def arrays(tables: Tables, xp: str, prepared: str, trains: bool = True) -> str:
    """The same for the arrays of a library; `prepared` are lines that make an array `result` of `peak`."""
    # The beginning goes first: whole numbers are exact, and single precision has only 24 bits.
    value = ARRAY_VALUE.replace("TIME", f"k - begin + {float(tables.tick)!r}")
    value = value.replace("PREPARED", prepared.replace("\n", "\n    "))
    parts = (value, *([ARRAY_TRAINS] if trains and tables.freezes else []))
    return "\n\n\n".join(part.replace("XP", xp).strip() for part in parts)
