"""What a model is trained for: one file a task, found by its decorator; the loop knows only `Task`."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from etude.errors import ModelError, RecipeError, near
from etude.train import pretrained
from etude.train.pretrained import Loaded

if TYPE_CHECKING:
    import torch

    from etude.train.baselines import Baseline

_TASKS: dict[str, type["Task"]] = {}
_T = TypeVar("_T", bound=type["Task"])


def task(cls: _T) -> _T:
    """Class decorator: enters a task under its name."""
    _TASKS[cls.name] = cls
    return cls


def names() -> tuple[str, ...]:
    """The names of all tasks.

    >>> names()
    ('classification', 'regression')
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(sorted(_TASKS))


def get(name: str) -> "Task":
    """The task of this name. Raises RecipeError with the near names.

    >>> get("regression").metric
    'rmse'
    """
    known = names()
    if name not in known:
        raise RecipeError(f"task: there is no task {name!r}{near(name, known)}")
    return _TASKS[name]()


class Encoded(NamedTuple):
    """Tokenized texts, unpadded: for each the token lists by input name. `cut` of them were truncated."""

    rows: list[dict[str, list[int]]]
    cut: int


class Task(ABC):
    """One text in, one vector of logits out. `metrics` says of each metric whether greater is better."""

    name: ClassVar[str]
    metrics: ClassVar[Mapping[str, bool]]
    metric: ClassVar[str]
    paired: ClassVar[str]  # what `quality` measures

    def build(self, source: str, labels: Sequence[str] | None) -> Loaded:
        """A pretrained model with a head for `labels`, in float32, from a folder, an id or `package:NAME`.

        Seed before calling: a new head is drawn at random. Raises ModelError with what to write.
        """
        return pretrained.load(source, self.head(labels))

    def encode(self, tokenizer: Any, texts: Sequence[str], max_length: int) -> Encoded:
        """Tokenize each text once, cut at `max_length` tokens. Raises ModelError if the model reads fewer."""
        if max_length > tokenizer.model_max_length:
            limit = tokenizer.model_max_length
            raise ModelError(
                f"max_length is {max_length}; this model reads at most {limit} tokens: write {limit}"
            )
        found = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
        rows = [{key: found[key][i] for key in found} for i in range(len(texts))]
        return Encoded(rows, sum(bool(encoding.overflowing) for encoding in found.encodings))

    def collate(
        self,
        tokenizer: Any,
        encoded: Encoded,
        indices: Sequence[int],
        labels: Sequence[float] | None = None,
    ) -> dict[str, "torch.Tensor"]:
        """The texts `indices` as tensors [text, token], padded to the longest; `labels` [text] if given."""
        batch = dict(tokenizer.pad([encoded.rows[i] for i in indices], return_tensors="pt"))
        if labels is not None:
            batch["labels"] = self.targets([labels[i] for i in indices])
        return batch

    def features(self, model: Any, batch: Mapping[str, "torch.Tensor"]) -> "torch.Tensor":
        """What the model's own pooling hands to its head, [text, feature], without dropout.

        The head is the first module beside the pretrained body that runs after it. A head that sees every
        token either is a linear map, whose logit at the last real token counts (decoders), or picks the first
        token itself (RoBERTa's classification head).
        """
        import torch

        from etude.torch.modes import kept_modes

        seen: list[tuple[Any, torch.Tensor]] = []
        heads = [m for m in model.children() if m is not model.base_model and list(m.parameters())]
        hooks = [h.register_forward_pre_hook(lambda m, args: seen.append((m, args[0]))) for h in heads]
        try:
            with kept_modes(model), torch.inference_mode():
                model.eval()
                model(**{key: value for key, value in batch.items() if key != "labels"})
        finally:
            for hook in hooks:
                hook.remove()
        if not seen:
            raise ModelError(f"{type(model).__name__} has no head of its own to measure a probe on")
        head, pooled = seen[0]
        if pooled.dim() == 3:
            ids, last = batch["input_ids"], 0
            if isinstance(head, torch.nn.Linear):
                real = ids != model.config.get_text_config().pad_token_id
                last = (real * torch.arange(ids.shape[1], device=ids.device)).argmax(-1)
            pooled = pooled[torch.arange(len(ids), device=ids.device), last]
        return pooled.float()

    @abstractmethod
    def head(self, labels: Sequence[str] | None) -> dict[str, Any]:
        """The entries of a transformers config that make its head fit."""

    @abstractmethod
    def targets(self, labels: Sequence[float]) -> "torch.Tensor":
        """Labels as the tensor that `losses` takes."""

    @abstractmethod
    def losses(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        """The loss of each text, float32 [text]; the loop divides by the texts of the whole update."""

    @abstractmethod
    def predictions(self, logits: Any) -> np.ndarray:
        """What the logits [text, output] say: class numbers, or numbers."""

    @abstractmethod
    def score(self, logits: Any, labels: Any) -> dict[str, float]:
        """All of `metrics` over a whole part of the data."""

    @abstractmethod
    def quality(self, predictions: Any, labels: Any) -> np.ndarray:
        """One number a text, for the paired comparison of two models."""

    @abstractmethod
    def baselines(
        self, features: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], outputs: int, metric: str
    ) -> tuple["Baseline", ...]:
        """The fair probe, then the trivial guess; both mappings have train, validation and test."""


def as_array(values: Any) -> np.ndarray:
    """A tensor on any device, a list or an array, as a float64 array."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu()
    return np.asarray(values, dtype=np.float64)
