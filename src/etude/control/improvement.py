"""Whether a reading is better than another: in both directions, by a margin, wherever zero lies."""

import math
import re
from dataclasses import KW_ONLY, dataclass

from etude.control.watching import Watching, at_least, check
from etude.errors import ScheduleError, near

MODES = ("rel", "abs")
# Words in a metric's name that say that more is better; a metric without one is taken for a loss.
GREATER = {
    "acc", "accuracies", "accuracy", "ap", "auc", "auprc", "auroc", "bertscore", "bleu", "chrf",
    "correlation", "dice", "em", "exact", "explained", "f1", "f1score", "fbeta", "hit", "hits", "iou",
    "jaccard", "kappa", "kendall", "likelihood", "map", "match", "matthews", "mcc", "meteor", "miou", "mrr",
    "ndcg", "pass", "pearson", "pearsonr", "prauc", "precision", "psnr", "r2", "recall", "reciprocal",
    "return", "rew", "reward", "rewards", "rocauc", "rouge", "rougel", "rougelsum", "sacrebleu", "score",
    "scores", "sensitivity", "similarity", "spearman", "spearmanr", "specificity", "ssim", "success", "top",
    "win",
}  # fmt: skip
PHRASES = ("io u", "r squared")
# Words that say that less is better, whatever stands beside them.
SMALLER = {
    "anomaly", "brier", "crps", "distance", "error", "errors", "fid", "hallucination", "interval", "loss",
    "mae", "mse", "nll", "perplexity", "ppl", "rejected", "rmse", "std", "toxicity",
}  # fmt: skip


def greater_is_better(metric: str) -> bool:
    """What the name of a metric says of it; a name that says nothing is taken for that of a loss.

    >>> [greater_is_better(name) for name in ("eval_loss", "eval_token_accuracy", "f1", "f1_error", "wer")]
    [False, True, True, False, False]
    >>> [greater_is_better(name) for name in ("valAccuracy", "hit@10", "neg_mean_squared_error", "fid_score")]
    [True, True, True, False]
    """
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", metric).lower()
    words = re.split(r"[^a-z0-9]+", parted)
    said = {*words, *(word.rstrip("0123456789") for word in words)}
    smaller = bool(said & SMALLER) or ("variance" in said and "explained" not in said)
    greater = bool(said & GREATER) or any(phrase in " ".join(words) for phrase in PHRASES)
    if said & {"neg", "negative"}:
        return smaller
    return greater and not smaller


@dataclass(frozen=True)
class Improving(Watching):
    """What controllers share that wait for a metric to get better.

    A reading is better than another if the gain, in the metric's direction, is more than `threshold` (mode
    "abs") or `threshold` × |the other| (mode "rel"). Decisions are the same for a metric shifted by a
    constant ("abs") or multiplied by a positive one ("rel"). torch and optax write best × (1 - threshold),
    which for a negative best asks for less than the best (pytorch#47513, optax#1767).
    """

    _: KW_ONLY
    greater_is_better: bool | None
    threshold: float
    threshold_mode: str
    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.word, "name", self.name, isinstance(self.name, str) and self.name, "a text")
        if self.greater_is_better is None:
            object.__setattr__(self, "greater_is_better", greater_is_better(self.metric))
        check(
            self.word, "greater_is_better", self.greater_is_better,
            isinstance(self.greater_is_better, bool), "True or False, or None to go by the metric's name",
        )  # fmt: skip
        at_least(self.word, "threshold", self.threshold, 0)
        if self.threshold_mode not in MODES:
            raise ScheduleError(
                f"{self.word}(threshold_mode={self.threshold_mode!r}) is not known"
                f"{near(str(self.threshold_mode), MODES)}"
            )

    def gain(self, value: float, other: float) -> float:
        """By how much a reading is better than another, in the metric's own unit; negative if it is worse."""
        return value - other if self.greater_is_better else other - value

    def better(self, value: float, best: float | None) -> bool:
        """Whether a reading is better than the best so far; the first finite one is, no other one ever is."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        margin = self.threshold * abs(best) if self.threshold_mode == "rel" else self.threshold
        return self.gain(value, best) > margin

    def waited(self, value: float, count: int, best: float | None) -> str:
        """The reason of an edit at a reading, the last of `count` that were not better than the best."""
        readings = "reading" if count == 1 else "readings"
        than = "any" if best is None else f"{best:.6g}"
        return f"{self.metric} {value:.6g}: {count} {readings} without improvement on {than}"
