"""`etude.plan(model, …)`: from a model and what the user wants to a plan."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Never, TypedDict, Unpack

from etude.core.path import Schedule, as_schedule
from etude.core.plan import Plan
from etude.errors import PlanError
from etude.model import freeze as freezing
from etude.model.confirm import confirm
from etude.model.groups import Layout
from etude.model.groups import layout as settle
from etude.model.ladder import Ladder, ladder, level
from etude.model.leaf import NO_DECAY, Leaf, listed
from etude.model.match import checked, hits, named
from etude.model.options import refuse_unknown
from etude.model.override import Override, matches, overrides, refuse_shared_numbers
from etude.model.partial import PartialPlan
from etude.model.rates.multiplier import LayerDecay, Multipliers
from etude.model.rates.ratio import ratio
from etude.model.stages.gates import stages as staged
from etude.model.wishes import Wishes


class Options(TypedDict, total=False):
    """The options of `plan` that say what each parameter gets; their meaning and defaults stand there."""

    layer_decay: LayerDecay
    convention: str
    head: float
    embeddings: float | None
    min_scale: float
    weight_decay: Any
    no_decay: str | Iterable[str]
    lora_plus: float | None
    freeze: freezing.Freeze
    stages: Any
    new: str | Iterable[str]
    only: str | Callable[[Leaf], bool] | None
    example: Any
    groups: Iterable[Any]


class PlanOptions(Options, total=False):
    """All options of `plan`."""

    momentum: Any
    tick: float


def plan(
    model: Any,
    lr: Any,
    *,
    layer_decay: LayerDecay = None,
    convention: str = "bert",
    head: float = 1.0,
    embeddings: float | None = None,
    min_scale: float = 0.0,
    weight_decay: Any = 0.0,
    no_decay: str | Iterable[str] = NO_DECAY,
    lora_plus: float | None = None,
    freeze: freezing.Freeze = None,
    stages: Any = None,
    new: str | Iterable[str] = (),
    only: str | Callable[[Leaf], bool] | None = None,
    example: Any = None,
    momentum: Any = None,
    groups: Iterable[Any] = (),
    tick: float = 0.5,
    **unknown: Never,
) -> Plan:
    """Plan the rates of every trainable parameter of a model.

    `model` is a torch module or a list of `Leaf`; `lr`, `weight_decay` and `momentum` (the first beta of
    Adam; None leaves it to the optimizer) are numbers, paths, schedules or their text; `tick` is that of
    `Plan`. What follows is all that makes groups differ.

    Rates, as ratios of `lr`:

    - `layer_decay`: the rate of a layer over that of the layer above it, in (0, 1]. The last block trains at
      `lr`. A mapping gives each tower of a model its own; a list is the ratios of the rungs themselves, from
      the embeddings to the top. None: 1, or what the convention has.
    - `convention`: where the powers are counted from, or another rule: "bert", "electra", "beit" (MAE, timm),
      "ulmfit", "fastai", "fastai(0.01)", "thirds"; see `etude.model.rates.convention` for each one's source.
    - `head`: what lies outside the pretrained backbone; `embeddings`: the lowest rung. No rung lies below
      `min_scale`.
    - `lora_plus`: LoRA's B over A (LoRA+, arXiv 2402.12354, takes 16), on top of the layer's own ratio.

    Weight decay: `no_decay` lists the kinds without it, of "bias", "norm", "vector" and "embedding", told by
    module and shape; see `etude.model.leaf.kinds`.

    What trains: `freeze` keeps a rung and everything below it frozen for good ("embeddings", "layer.5", a
    depth, `{tower: rung}`), or single parameters by a regular expression or a function of a `Leaf`, or a list
    of all these. `stages` freeze and thaw rungs over time. Neither changes another parameter's rate.

    Where parameters stand: `new` names those that loading has initialised afresh, such as
    `loading_info["missing_keys"]` of transformers; they train as the head. `only`, a regular expression or a
    function of a `Leaf`, makes a plan of some parameters; another plan drives the rest in an optimizer of its
    own. Depths are those of the whole model. `example`, a batch (a mapping of arguments, a tuple of them, or
    the only one), confirms all depths by one forward pass, which leaves no trace, and settles what names
    leave in doubt. Without it a model of transformers is run on its own `dummy_inputs`, only if in doubt.

    `groups` settles single parameters by hand: pairs of a regular expression (or a function of a `Leaf`) and
    settings, first match wins, over everything above. Settings are one of `depth` (a number or "embeddings",
    "layer.3", "top", "head"), `lr_scale` (a ratio of the peak) and `lr` (absolute), `weight_decay` (absolute,
    for those that decay), and one of `freeze` (True, or False for what `freeze=` hits) and `gate`, a path of
    levels that multiplies the rate: a warm-up or a schedule of the group's own, or `frozen(0.3) >> hold()`.

    The plan has one group per distinct setting, named for the rungs that share it, from the bottom up. Raises
    `PlanError` when a depth is needed and a parameter has none that is certain, and for whatever has no
    effect (such as `head` where the output layer is tied to the embeddings) or contradicts itself.

    >>> blocks = [f"gpt.h.{i}.{part}.weight" for i in range(2) for part in ("attn", "mlp")]
    >>> leaves = [Leaf(name, (4, 4)) for name in ("gpt.wte.weight", *blocks, "score.weight")]
    >>> leaves[0] = leaves[0]._replace(module="Embedding")
    >>> for group in plan(leaves, "2e-5 * cosine()", layer_decay=0.5, head=10).groups:
    ...     print(group.name, group.scale["lr"], len(group.params))
    embeddings 0.25 1
    layer.0 0.5 2
    layer.1 1.0 2
    head 10.0 1
    """
    refuse_unknown("plan", unknown, PlanOptions.__annotations__)
    settled = layout(
        model,
        lr,
        layer_decay=layer_decay,
        convention=convention,
        head=head,
        embeddings=embeddings,
        min_scale=min_scale,
        weight_decay=weight_decay,
        no_decay=no_decay,
        lora_plus=lora_plus,
        freeze=freeze,
        stages=stages,
        new=new,
        only=only,
        example=example,
        groups=groups,
    )
    hypers = {"lr": as_schedule(lr), "weight_decay": as_schedule(weight_decay)}
    if momentum is not None:
        hypers["momentum"] = as_schedule(momentum)
    return planned(settled, hypers, tick)


def layout(model: Any, lr: Any = 1.0, **options: Unpack[Options]) -> Layout:
    """Where every parameter stands and what it gets, with the reasons; the arguments are those of `plan`.

    `layout(…).rows()` is the table behind `etude groups`, `layout(…).ladder` the depths.
    """
    refuse_unknown("layout", options, Options.__annotations__)
    peak, decay = as_schedule(lr).peak, as_schedule(options.get("weight_decay", 0.0)).peak
    leaves = _leaves(model)
    asked: dict[str, Any] = {name: options[name] for name in Multipliers.__annotations__ if name in options}
    multipliers = Multipliers(**asked)
    entries = overrides(options.get("groups", ()), peak, decay)
    by_hand = matches(leaves, entries)
    freeze, only = options.get("freeze"), options.get("only")
    stages = None if options.get("stages") is None else staged(options["stages"])
    kinds = listed(options.get("no_decay", NO_DECAY))
    by_word = {name: entry.depth for name, entry in by_hand.items() if entry.depth is not None}
    fresh = _new(options.get("new", ()), model, leaves) - by_word.keys()
    depths = dict.fromkeys(fresh, "head") | by_word
    needed = bool(depths) or stages is not None or multipliers.needs_depth or freezing.needs_depth(freeze)
    found = _ladder(leaves, depths, needed, model, options.get("example"))
    multipliers.check_rungs(found)
    refuse_shared_numbers(entries, _untouched(found, leaves, entries))
    wishes = Wishes(
        multipliers,
        by_hand,
        kinds if decay else None,
        1.0 if options.get("lora_plus") is None else ratio("lora_plus", options["lora_plus"], "write 16"),
        freezing.frozen(freeze, found, leaves),
        {} if stages is None else stages.gates(found),
        None if only is None else hits("only", checked("only", only), leaves),
    )
    return settle(_told(found, fresh), wishes)


def planned(settled: Layout, hypers: Mapping[str, Schedule], tick: float) -> Plan:
    """The plan of a layout: its groups, driven by these schedules."""
    left_out = [
        placement.leaf.name
        for placement in settled.ladder.placements
        if placement.leaf.trainable and placement.leaf.name not in settled.settings
    ]
    if left_out:
        return PartialPlan(hypers, settled.groups(), tick, left_out)
    return Plan(hypers, settled.groups(), tick)


def _ladder(
    leaves: Sequence[Leaf], depths: Mapping[str, int | str], needed: bool, model: Any, example: Any
) -> Ladder:
    torch_model = hasattr(model, "named_parameters")
    if example is not None and not torch_model:
        raise PlanError("example is a batch for the forward pass of a torch model; a list of Leaf has none")
    if example is not None:
        from etude.torch.execution import order_of_use

        order = order_of_use(model, example)
        found = ladder(leaves, depths, lambda: order)
        confirm(found, order)
        return found
    try:
        return ladder(leaves, depths, (lambda: _own_order(model)) if torch_model and needed else None)
    except PlanError:
        if needed:
            raise
        return level(leaves)


def _own_order(model: Any) -> Sequence[str]:
    """The order of use with the inputs that a model of transformers brings along; empty if it has none."""
    from etude.torch.execution import order_of_use

    try:
        device = next(iter(model.parameters())).device
        return order_of_use(model, {name: value.to(device) for name, value in model.dummy_inputs.items()})
    except Exception:  # no such inputs, or none that this model takes: what is in doubt stays so
        return ()


def _untouched(found: Ladder, leaves: Sequence[Leaf], entries: Sequence[Override]) -> Ladder:
    """The ladder without what was placed by hand, if it can do without."""
    if all(entry.depth is None for entry in entries):
        return found
    try:
        return ladder(leaves)
    except PlanError:
        return found


def _told(found: Ladder, fresh: Collection[str]) -> Ladder:
    """The ladder with the reason of what stands on the head for being new."""
    placements = [
        place._replace(reason="newly initialised") if place.leaf.name in fresh else place
        for place in found.placements
    ]
    return Ladder(found.towers, tuple(placements))


def _new(new: str | Iterable[str], model: Any, leaves: Sequence[Leaf]) -> set[str]:
    buffers = [name for name, _ in model.named_buffers()] if hasattr(model, "named_buffers") else ()
    return named("new", [new] if isinstance(new, str) else new, leaves, buffers)


def _leaves(model: Any) -> list[Leaf]:
    if hasattr(model, "named_parameters"):
        from etude.torch.leaves import leaves

        found = leaves(model)
    elif isinstance(model, Sequence) and all(isinstance(leaf, Leaf) for leaf in model):
        found = list(model)
    else:
        raise PlanError(f"plan takes a torch module or a list of Leaf, got {type(model).__name__}")
    if not found:
        raise PlanError("this model has no parameters")
    return found
