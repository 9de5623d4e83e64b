"""`docs/architectures.md`: the verdict on every family, and what stands behind it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from proof.configurations import CHANGES, NOT_BUILT
from proof.counts import HAND, NAMED, TIMM
from proof.otherwise import HEADS, OTHERWISE
from proof.verdicts import Verdict, worst

SHORT = 150
PREFERRED = (
    "ForConditionalGeneration", "ForCausalLM", "ForPreTraining", "ForSequenceClassification",
    "ForImageClassification", "ForObjectDetection", "ForAudioClassification", "ForCTC", "LMHeadModel",
)  # fmt: skip


class Judged(NamedTuple):
    """The verdicts on the classes of a model type, and how many parameters of how many a pass reached.

    `live` has the verdict's word where the model's own inputs settle what is in doubt.
    """

    verdicts: dict[str, Verdict]
    reached: tuple[int, int]
    live: dict[str, str]


class JudgedTimm(NamedTuple):
    """The verdicts on the architectures of a module of timm, with their relation to timm's order."""

    verdicts: dict[str, Verdict]
    relations: dict[str, str]


def representative(names: Sequence[str]) -> str:
    """The class by which a model type is shown."""
    ends = (name for end in PREFERRED for name in names if name.endswith(end))
    return next(ends, names[0])


def row(model_type: str, verdicts: Mapping[str, Verdict]) -> str:
    """A model type: its classes, the towers of one of them with their blocks, and the verdict."""
    shown = verdicts[representative(list(verdicts))]
    return f"| {model_type} | {len(verdicts)} | {towers(shown)} | {summary(verdicts)} |"


def towers(verdict: Verdict) -> str:
    """The towers of a model, by name, each with its number of blocks."""
    found = verdict.found.towers if verdict.found else {}
    return ", ".join(f"{name} {blocks}".strip() for name, blocks in found.items()) or "–"


def summary(verdicts: Mapping[str, Verdict]) -> str:
    """The worst verdict of a family, and on how many of its members."""
    words = [verdict.word for verdict in verdicts.values()]
    word = worst(words)
    return word if words.count(word) == len(words) else f"{word} {words.count(word)} of {len(words)}"


def timm_row(module: str, judged: JudgedTimm) -> str:
    """A module of timm: its architectures, their blocks from the fewest to the most, verdict and relation."""
    blocks = sorted({v.found.blocks for v in judged.verdicts.values() if v.found})
    span = f"{blocks[0]} to {blocks[-1]}" if len(blocks) > 1 else str(*blocks)
    words = Counter(
        word or "no ids" for name, word in judged.relations.items() if judged.verdicts[name].found
    )
    relation = ", ".join(f"{word} {n}" if len(words) > 1 else word for word, n in words.most_common())
    cells = (module, len(judged.verdicts), span or "–", summary(judged.verdicts), relation or "–")
    return f"| {' | '.join(map(str, cells))} |"


def page(judged: Mapping[str, Judged], unbuilt: Mapping[str, str], timm: Mapping[str, JudgedTimm]) -> str:
    """The whole document."""
    return "\n".join(
        [
            *_head(judged, timm),
            *_transformers(judged),
            *(_timm(timm) if timm else ()),
            *_by_hand(),
            *_not_built(judged, unbuilt),
        ]
    )


def _head(judged: Mapping[str, Judged], timm: Mapping[str, JudgedTimm]) -> Iterator[str]:
    classes = [verdict.word for one in judged.values() for verdict in one.verdicts.values()]
    types = [worst([v.word for v in one.verdicts.values()]) for one in judged.values()]
    live = [worst([*one.live.values()]) for one in judged.values()]
    architectures = [verdict.word for one in timm.values() for verdict in one.verdicts.values()]
    modules = [worst([v.word for v in one.verdicts.values()]) for one in timm.values()]
    yield TITLE
    yield "| | judged | right | refused | wrong | right |"
    yield "|---|---|---|---|---|---|"
    for what, words in (
        ("model types of transformers 5.23, by names, shapes and module types", types),
        ("the same in `etude.plan(model)`, which in doubt runs the model's own `dummy_inputs`", live),
        ("their classes", classes),
        ("modules of timm 1.0.31", modules),
        ("their architectures", architectures),
    ):
        if not words:
            continue
        n = Counter(words)
        share = f"{100 * n['right'] / max(len(words), 1):.1f} %"
        yield f"| {what} | {len(words)} | {n['right']} | {n['refused']} | {n['wrong']} | {share} |"
    ran = [one.reached for one in judged.values() if one.reached[0]]
    full = sum(reached > 0.95 * of for reached, of in ran)
    yield ""
    yield (
        f"Passes were run for {len(ran)} of the {len(judged)} model types, in {full} of them through more "
        f"than 95 % of the parameters, and for all architectures of timm."
    )
    yield METHOD


def _transformers(judged: Mapping[str, Judged]) -> Iterator[str]:
    yield "## transformers"
    yield ""
    yield "The towers are those of one class, which generates or classifies where the type has such a one."
    yield ""
    yield "| model type | classes | towers and blocks | verdict |"
    yield "|---|---|---|---|"
    yield from (row(model_type, one.verdicts) for model_type, one in judged.items())
    for word in ("wrong", "refused"):
        keys = [
            f"- `{model_type}` {name}: {_short(verdict)}{_settled(one.live[name])}"
            for model_type, one in judged.items()
            for name, verdict in one.verdicts.items()
            if verdict.word == word
        ]
        if keys:
            yield from ("", f"### {word.capitalize()}", "", *keys)
    yield ""


def _timm(timm: Mapping[str, JudgedTimm]) -> Iterator[str]:
    yield TIMM_HEAD
    yield "| module | architectures | blocks | verdict | order |"
    yield "|---|---|---|---|---|"
    yield from (timm_row(module, one) for module, one in timm.items())
    yield from ("", "### Ranked otherwise by timm", "")
    yield from (f"- {one.module or 'all'}, `{one.pattern}`: {one.why}." for one in OTHERWISE)
    for module, heads in HEADS.items():
        yield f"- {module}: `default_cfg` of some lacks {', '.join(heads)}, which depends on the classes too."
    bad = [
        f"- `{module}` {', '.join(names)}: {reason}"
        for module, one in timm.items()
        for reason, names in _reasons(one.verdicts).items()
    ]
    if bad:
        yield from ("", "### Refused or wrong", "", *bad)
    yield ""


def _reasons(verdicts: Mapping[str, Verdict]) -> dict[str, list[str]]:
    """The reasons of a module, each with the architectures that it holds for."""
    found: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for name, verdict in verdicts.items():
        if verdict.word != "right":
            key = first.setdefault(verdict.word, _short(verdict))
            found.setdefault(key, []).append(name)
    return found


def _settled(live: str) -> str:
    return " (settled by its own inputs)" if live == "right" else ""


def _short(verdict: Verdict) -> str:
    """The first reason, cut short; of a refusal the names and the line to write."""
    reason = " ".join(verdict.reasons[0].split())
    what, _, line = reason.partition(" Say it: ")
    if line:
        names = what.partition(" in ")[2].partition(": ")[2].rstrip(".")
        first = ", ".join(names.split(", ")[:2])
        first += " …" if first != names else ""
        return f"{first}; write `{line.partition('], or ')[0]}]`, or another rung"
    return reason if len(reason) <= SHORT else reason[:SHORT].rsplit(" ", 1)[0] + " …"


def _by_hand() -> Iterator[str]:
    yield HAND_HEAD
    yield "| configuration | list | counted so |"
    yield "|---|---|---|"
    for (config, path), hand in sorted(HAND.items()):
        yield f"| {config} | {path} | {hand.why} |"
    for config, (pattern, hand) in NAMED.items():
        yield f"| {config} | `{pattern}` | {hand.why} |"
    for (kind, stages), hand in TIMM.items():
        yield f"| a model of timm | {stages} stages of {kind} | {hand.why} |"
    yield ""


def _not_built(judged: Mapping[str, Judged], unbuilt: Mapping[str, str]) -> Iterator[str]:
    from proof.models import model_types

    yield "## What is not built"
    yield ""
    for key, reason in {**unbuilt, **NOT_BUILT}.items():
        yield f"- `{key}`: {reason}"
    alone = [f"`{one}`" for one in model_types() if one not in judged and one not in NOT_BUILT]
    yield ""
    yield (
        f"{len(alone)} model types are configurations of parts of other models and have no public class of "
        f"their own; they are judged inside those: {', '.join(alone)}."
    )
    yield ""
    changed = [f"`{key}`" for key in CHANGES]
    yield (
        f"The default configuration of {len(changed)} types or classes builds no model; these were built "
        f"with the smallest change that does: {', '.join(changed)}."
    )
    yield ""


TITLE = """# Architectures

Generated by `python tests/architectures/judge.py --docs docs`; tests hold it to what étude does today.

étude places every parameter of a model on a ladder: embeddings, blocks, top, head, tower by tower (see
[layers.md](layers.md)). Here every public model class of transformers and every architecture of timm is
built, and the ladder is judged without any override.

**right**: every criterion below holds · **refused**: étude says that it cannot tell, and what to write ·
**wrong**: a criterion is broken; this is the one that must not happen.
"""

METHOD = """
## What is judged

The judge knows nothing of étude's code. It looks at the live modules, at the configuration and at what a
forward pass computes:

1. Every trainable parameter is placed exactly once; a tied one once, with all its names.
2. Each list of blocks that a configuration counts (`num_hidden_layers`, `encoder_layers`, the sum of
   `depths`, …; the configuration nearest to the list) is a tower with that many blocks, at the depths 1, 2,
   3, … in order. No other tower exists, unless it is a list of modules that runs beside the blocks, such as
   the neck of a detector.
3. All parameters of a block have one depth, and no two blocks share one.
4. Embedding tables are below the first block; what a task adds to its base model is above the last.
5. Depth never decreases along the flow of data inside a tower: a pass is run on the meta device (default
   configuration, no weights), and by its autograd graph no parameter is fed by a higher one of its tower.
   Time alone would not do: a branch that reads the output of block 8 runs before block 9 and feeds nothing
   in it.
6. Under `torch.compile`, data parallelism, FSDP and PEFT, and under another head, the table is the same (a
   sample of 31 families with the real wrappers, in `tests/architectures/test_wrappers.py`).

A model type counts as its worst class.
"""

TIMM_HEAD = """## timm

Besides 1 and 5, with one tower and every block fed by the block below, étude's depths are compared with
timm's own layer ids (`group_matcher`, the ones that its layer decay uses), and the head with `default_cfg`:
it is what timm does not load for another number of classes, and nothing else, so that no pretrained weight
trains at the head's rate. No pair of parameters may be ordered the opposite way, and no two layers of
timm may share a block. *same*: within the blocks the two agree exactly; *finer*: étude has several blocks
where timm has one layer, as a rule a stage; *no ids*: the model has no `group_matcher`.
Conventions that differ by design: timm
counts the final norm with the last block, étude one rung above it; timm gives the last block the decay once,
étude not at all; a norm is no layer of its own (timm gives VGG's two for each convolution).
"""

HAND_HEAD = """## Counted by hand

Where no configuration has a number, a person read it off the modeling code.
"""
