"""What every written text has, whatever its target: the header, the imports and the tables."""

from collections.abc import Iterable
from textwrap import TextWrapper

import etude
from etude.export.layout import WIDTH, Brackets, exploded, laid, literal, quoted
from etude.export.tables import Row, Tables, Value

OWN = ("math", "functools", "re")  # modules of the standard library that may be needed
PLACES = {0: "at its beginning", 0.5: "in its middle", 1: "at its end"}
COLUMNS = "# first update, begin and length of the piece, level from, to, formula\n"


def header(tables: Tables, to: str) -> str:
    """What the code was written from, as comments."""
    plan = tables.rates.plan
    facts = [f"Written by étude {etude.__version__} (export --to {to}): paste it, change it, it is yours."]
    facts += [f"{hyper} = {schedule}" for hyper, schedule in plan.hypers.items()]
    run = "no end" if tables.updates is None else f"{tables.updates} updates, k = 0 … {tables.updates - 1}"
    facts.append(f"{run}, each read {PLACES.get(plan.tick, 'inside it')} (tick {plan.tick:g})")
    for group in plan.groups if tables.grouped else ():
        said = [f"{hyper} × {by:g}" for hyper, by in group.scale.items() if by != 1]
        said += [f"gate {group.gate}"] if group.gate is not None else []
        facts.append(f"group {group.name}: {', '.join(said) or 'as it stands'}")
    for edit in tables.rates.edits:
        values = edit.as_json()
        who = [text for text in (values.pop("author"), values.pop("reason")) if text]
        what = [f"edit at {values.pop('at'):g}: {values.pop('edit')}"]
        what += [f"{key} {value}" for key, value in values.items()]
        facts.append(f"{', '.join(what)} ({': '.join(who)})")
    fill = TextWrapper(WIDTH, initial_indent="# ", subsequent_indent="#     ", break_long_words=False).fill
    return "\n".join(fill(" ".join(fact.split())) for fact in facts)


def imports(lines: Iterable[str]) -> str:
    """Import lines in the order in which linters want them, the standard library's first."""
    ordered = sorted(set(lines), key=lambda line: (line.startswith("from"), line.lower()))
    ours = [line for line in ordered if line.split()[1] in OWN]
    theirs = [line for line in ordered if line not in ours]
    return "\n\n".join("\n".join(block) for block in (ours, theirs) if block)


def data(tables: Tables) -> str:
    """The paths, the groups' parameters, and each hyper-parameter as its peak and the names of its paths."""
    texts = [
        exploded(Brackets(f"{name} = [", [_row(row) for row in rows], "]"))
        for name, rows in tables.paths.items()
    ]
    if texts:
        texts[0] = COLUMNS + texts[0]
    if tables.grouped:
        unsaid = "" if all(tables.params.values()) else "# write the names of each group's parameters here\n"
        groups = [literal(list(names), f"{quoted(name)}: ") for name, names in tables.params.items()]
        texts.append(unsaid + exploded(Brackets("GROUPS = {", groups, "}")))
    for hyper, values in tables.values.items():
        if tables.grouped:
            items = [_value(f"{quoted(group)}: ", value) for group, value in values.items()]
            texts.append(exploded(Brackets(f"{hyper.upper()} = {{", items, "}")))
        else:
            texts += [laid(_value(f"{hyper.upper()} = ", value)) for value in values.values()]
    return "\n\n".join(texts)


def _row(row: Row) -> Brackets:
    options = [literal(value, f"{name}=") for name, value in row.options]
    formula = Brackets("partial(", [row.shape, *options], ")") if options else row.shape
    times = [int(t) if float(t).is_integer() else t for t in (row.begin, row.length)]
    return Brackets("(", [*map(literal, (row.first, *times, row.a, row.b)), formula], ")")


def _value(before: str, value: Value) -> Brackets:
    return Brackets(f"{before}(", [literal(value.peak), *value.paths], ")")
