"""The code of docs/layers.md runs as it is printed, and its commands and names are those of the program."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

import etude
from etude.model.rates.convention import CONVENTIONS
from etude.planning import PlanOptions

PAGE = (Path(__file__).parents[1] / "docs/layers.md").read_text(encoding="utf-8")
SIZES = {"vocab_size": 50, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What each block of the page leaves behind: its plan, and the names that it defined."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=12, **SIZES)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    batch = {"input_ids": torch.randint(50, (4, 8)), "labels": torch.randint(2, (4,))}
    names = {
        "etude": etude, "torch": torch, "BertForSequenceClassification": BertForSequenceClassification,
        "folder": folder, "updates": 3, "batch": batch, "loss": lambda model: model(**batch).loss,
    }  # fmt: skip
    seen = []
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        with contextlib.redirect_stderr(io.StringIO()):
            exec(block, names)
        seen.append(dict(names))
    return seen


def scales(names) -> dict[str, float]:
    return {group.name: group.scale["lr"] for group in names["plan"].groups}


def test_every_block_runs_and_does_what_the_page_says(ran):
    new, rates, electra, conventions, decay, trains, hand, optimizers, example = ran
    assert {"bert.pooler.dense.weight", "classifier.bias"} < set(new["plan"].groups[-1].params)
    assert scales(rates)["head"] == 10
    assert min(scales(rates).values()) == 0.05
    assert scales(rates)["embeddings"] == 0.1
    assert scales(electra)["embeddings"] == pytest.approx(0.044, abs=1e-4)
    assert scales(conventions) == {"embeddings..layer.3": 0.1, "layer.4..layer.7": 0.5, "layer.8..head": 1}
    held = {group.name: group.params for group in decay["plan"].groups}
    assert any("word_embeddings" in name for name in held["all.no_decay"])
    assert {group.name for group in trains["plan"].groups} == {"embeddings.frozen", "embeddings..head"}
    assert "head.x5.gated" in scales(hand)
    assert "layer.11..head.decay_x10" in scales(hand)
    assert optimizers["k"] == 2
    assert scales(example)["embeddings"] == pytest.approx(0.9**12)
    for driver in optimizers["drivers"]:
        assert driver.read("lr") == driver.at(2)["lr"]


def test_every_option_and_every_convention_stands_on_the_page():
    page = PAGE.partition("## What is covered")[0]
    assert [name for name in PlanOptions.__annotations__ if name not in page] == ["momentum", "tick"]
    assert set(re.findall(r"^\| `(\w+)(?:\([\d.]+\))?`(?: \(default\))? \|", page, re.MULTILINE)) >= {
        *CONVENTIONS
    }


def test_every_link_of_the_page_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", PAGE)
    assert len(links) > 4
    assert [link for link in links if not (Path(__file__).parents[1] / "docs" / link).exists()] == []
