"""Real data as tensors: what a pair learns from, is judged by, and is probed with.

Texts come tokenized for MiniLM and padded; images are resized and normalised as their model expects.
"""

import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from corpora import coarse
from models import minilm_folder
from torch import Tensor

LENGTH, HELD_OUT, PROBE = 32, 320, 32
IGNORED = -100  # torch's cross-entropy leaves these labels out


class Data(NamedTuple):
    """Inputs and labels to learn from, to judge a run by, and to probe a sweep with; no example is in two.

    `vocabulary` holds the tokens used; ids are their ranks.
    """

    train: tuple[Tensor, ...]
    train_labels: Tensor
    held_out: tuple[Tensor, ...]
    held_out_labels: Tensor
    probe: tuple[Tensor, ...]
    probe_labels: Tensor
    classes: int
    vocabulary: tuple[int, ...] = ()


def chosen(labels: Sequence[str], train: int, shots: int = 0) -> list[int]:
    """Positions to learn from (`train`, or `shots` of each class), then those held out, then the probe's."""
    order = list(range(len(labels)))
    random.Random(0).shuffle(order)
    held_out, rest, probe = order[:HELD_OUT], order[HELD_OUT:-PROBE], order[-PROBE:]
    if shots:
        taken = [[i for i in rest if labels[i] == label][:shots] for label in sorted(set(labels))]
        return [i for group in taken for i in group] + held_out + probe
    return rest[:train] + held_out + probe


def texts(rows: Sequence[tuple[str, str]], train: int, shots: int = 0) -> Data:
    """Labelled texts as token ids and masks."""
    labels = [label for _, label in rows]
    taken = chosen(labels, train, shots)
    names = sorted(set(labels))
    y = torch.tensor([names.index(labels[i]) for i in taken])
    coded = tokenizer()([rows[i][0] for i in taken], **_OPTIONS)
    return _text_data(coded["input_ids"], coded["attention_mask"], y, len(names))


def tagged(sentences: Sequence[list[tuple[str, str]]], train: int) -> Data:
    """Sentences of tagged words; the first piece of a word bears its tag."""
    rows = [sentences[i] for i in chosen(["" for _ in sentences], train)]
    names = sorted({coarse(tag) for row in sentences for _, tag in row})
    coded = tokenizer()([[word for word, _ in row] for row in rows], is_split_into_words=True, **_OPTIONS)
    y = torch.full(coded["input_ids"].shape, IGNORED)
    for i, row in enumerate(rows):
        before = None
        for j, word in enumerate(coded.word_ids(i)):
            if word is not None and word != before:
                y[i, j] = names.index(coarse(row[word][1]))
            before = word
    return _text_data(coded["input_ids"], coded["attention_mask"], y, len(names))


def images(pixels: np.ndarray, labels: np.ndarray, train: int, size: int, shots: int = 0) -> Data:
    """Grey images `[n, h, w]` of 0..255 as three normalised channels of `size` × `size`."""
    taken = chosen([str(label) for label in labels], train, shots)
    x = torch.from_numpy(pixels[taken].astype(np.float32) / 255).unsqueeze(1)
    x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # ImageNet
    x = (x.expand(-1, 3, -1, -1) - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    y = torch.from_numpy(labels[taken].astype(np.int64))
    return _split((x,), y, int(labels.max()) + 1)


_OPTIONS = {"truncation": True, "max_length": LENGTH, "padding": True, "return_tensors": "pt"}


@cache
def tokenizer():
    """MiniLM's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm_folder())


def _text_data(ids: Tensor, mask: Tensor, y: Tensor, classes: int) -> Data:
    vocabulary, ranks = torch.unique(ids, return_inverse=True)
    return _split((ranks, mask), y, classes, tuple(vocabulary.tolist()))


def _split(inputs: tuple[Tensor, ...], y: Tensor, classes: int, vocabulary: tuple[int, ...] = ()) -> Data:
    sizes = (len(y) - HELD_OUT - PROBE, HELD_OUT, PROBE)
    parts = zip(*(x.split(sizes) for x in inputs), strict=True)
    (train, held_out, probe), labels = parts, y.split(sizes)
    return Data(train, labels[0], held_out, labels[1], probe, labels[2], classes, vocabulary)


def trimmed(inputs: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Ids and mask without the columns that are padding in every row; images as they are."""
    inputs = tuple(inputs)
    if len(inputs) < 2:
        return inputs
    longest = int(inputs[1].sum(1).max())
    return tuple(x[:, :longest] for x in inputs)
