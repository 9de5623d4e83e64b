"""Judge étude's ladder on every model class of transformers and every architecture of timm.

    python tests/architectures/judge.py [-v] [FILTER…]

FILTER: regular expressions of `type:Class` or `timm/module:name`. Prints a line for each that is not right.

    -v             also every rung with its reasons
    --make         build and run again what the filters match, instead of reading build/architectures
    --timm FOLDER  a folder with timm and torchvision: with --make, also what needs them
    --docs DIR     write architectures.md
"""

import re
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from proof import models, page, ranks, store, timm_models
from proof.flow import Pass
from proof.oracle import Expected, expected
from proof.verdicts import Verdict, judge, worst

from etude.model.leaf import Leaf

Filter = Callable[[str], bool]
SMALL = 8e8  # parameters of a model that is run on the CPU
NOTHING = Expected((), (), (), "", ())


class Case(NamedTuple):
    """A model that was judged."""

    family: str
    name: str
    oracle: Expected
    verdict: Verdict
    relation: str = ""
    reached: tuple[int, int] = (0, 0)
    live: str = ""


def transformers(kept: dict[str, "store.Kept | str"], family: str, wanted: Filter) -> Iterator[Case]:
    """The classes of a model type that were built."""
    for name, one in kept.items():
        if isinstance(one, str) or not wanted(f"{family}:{name}"):
            continue
        oracle = expected(one.facts)
        if name.endswith(("Model", "Backbone")):
            oracle = oracle._replace(base="")
        leaves = [Leaf(*row) for row in one.facts.rows]
        seen = {parameter for run in one.passes for parameter in run.order}
        reached = (len(seen), sum(leaf.tied_to is None for leaf in leaves)) if one.passes else (0, 0)
        verdict = judge(leaves, oracle, one.passes)
        live = verdict.word
        if live == "refused":
            live = _live(family, name, leaves, oracle, one.passes)
        yield Case(family, name, oracle, verdict, reached=reached, live=live)


def _live(family: str, name: str, leaves: list[Leaf], oracle: Expected, passes: Sequence[Pass]) -> str:
    """The verdict's word where `etude.plan` has the model itself, which may bring inputs along."""
    try:
        model = models.build(family, name)
    except ImportError:
        return "refused"
    with models.quiet():
        if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
            model.to_empty(device="cpu")  # memory that nothing writes to takes no room
        return judge(leaves, oracle, passes, lambda: model).word


def timm(kept: dict[str, timm_models.Kept], family: str, wanted: Filter) -> Iterator[Case]:
    """The architectures of a module of timm."""
    for name, one in kept.items():
        if not wanted(f"{family}:{name}"):
            continue
        verdict, relation = ranks.judge(family.removeprefix("timm/"), one)
        yield Case(family, name, NOTHING, verdict, relation)


def cases(filters: Sequence[str], make: bool, with_timm: bool) -> Iterator[Case | tuple[str, str]]:
    """Everything that the filters match; for what cannot be built its name and why."""
    families = [re.compile(text.partition(":")[0]) for text in filters]

    def chosen(family: str) -> bool:
        return not filters or any(pattern.search(family) for pattern in families)

    def wanted(key: str) -> bool:
        return not filters or any(re.search(text, key) for text in filters)

    for model_type in models.model_types() if make else store.kept("transformers"):
        if chosen(model_type):
            kept = store.transformers(model_type, make)
            yield from transformers(kept, model_type, wanted)
            yield from ((f"{model_type} {name}", one) for name, one in kept.items() if isinstance(one, str))
    for module in timm_models.names() if make and with_timm else store.kept("timm"):
        if chosen(f"timm/{module}"):
            yield from timm(store.timm(module, make and with_timm), f"timm/{module}", wanted)


def main(words: list[str]) -> None:
    options = {word: words[words.index(word) + 1] for word in ("--timm", "--docs") if word in words}
    flags = {word for word in words if word in ("-v", "--make")}
    filters = [word for word in words if word not in {*options, *options.values(), *flags}]
    if "--make" in flags:  # a pass over a large image must not take the machine's memory
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    if "--timm" in options:
        models.with_timm(options["--timm"])
    found: list[Case] = []
    unbuilt: dict[str, str] = {}
    for case in cases(filters, "--make" in flags, "--timm" in options):
        if not isinstance(case, Case):
            unbuilt[case[0]] = case[1]
        else:
            found.append(case)
            if "-v" in flags or case.verdict.word != "right":
                show(case, "-v" in flags)
    for what, some in (
        ("transformers", [case for case in found if not case.family.startswith("timm/")]),
        ("timm", [case for case in found if case.family.startswith("timm/")]),
    ):
        families: dict[str, list[str]] = {}
        for case in some:
            families.setdefault(case.family, []).append(case.verdict.word)
        print(f"{what}: {len(some)} models {dict(Counter(case.verdict.word for case in some))}")
        print(f"  {len(families)} families {dict(Counter(worst(words) for words in families.values()))}")
    if "--docs" in options:
        write(Path(options["--docs"]), found, unbuilt)


def write(folder: Path, found: list[Case], unbuilt: dict[str, str]) -> None:
    """Write the document."""
    judged: dict[str, page.Judged] = {}
    timm: dict[str, page.JudgedTimm] = {}
    for case in found:
        if case.family.startswith("timm/"):
            one = timm.setdefault(case.family.removeprefix("timm/"), page.JudgedTimm({}, {}))
            one.verdicts[case.name] = case.verdict
            one.relations[case.name] = case.relation
        else:
            old = judged.get(case.family, page.Judged({}, (0, 0), {}))
            reached = case.reached if case.reached[1] else old.reached
            live = {**old.live, case.name: case.live}
            judged[case.family] = page.Judged({**old.verdicts, case.name: case.verdict}, reached, live)
    (folder / "architectures.md").write_text(page.page(judged, unbuilt, timm), encoding="utf-8")


def show(case: Case, verbose: bool) -> None:
    """Print a case: a line, or everything."""
    oracle, verdict = case.oracle, case.verdict
    towers = ", ".join(f"{t.path}={len(t.blocks)}" for t in oracle.towers) or "no count"
    found = dict(verdict.found.towers) if verdict.found else "-"
    reasons = "; ".join(reason[:170] for reason in verdict.reasons[:3])
    what = case.relation if case.family.startswith("timm/") else f"expected {towers}"
    print(
        f"{verdict.word.upper():8}{case.family}:{case.name} | {what} | found {found} | "
        f"{len(verdict.reasons)}: {reasons}"
    )
    if not verbose:
        return
    for tower in (*oracle.towers, *oracle.lists):
        print(f"    list {tower.path} {len(tower.blocks)} {tower.source or 'may be'}")
    for path in oracle.unexplained:
        print(f"    unexplained {path}")
    for rung in verdict.found.rungs() if verdict.found else []:
        why = sorted({placement.reason for placement in rung.placements})
        print(f"    {rung.name:24}{len(rung.placements):5}  {rung.placements[0].leaf.name}  | {why}")
    for reason in verdict.reasons:
        print(f"    ! {reason}")


if __name__ == "__main__":
    main(sys.argv[1:])
