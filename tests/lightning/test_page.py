"""The page's own example runs as it is printed."""

import re
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="the page is Lightning's")

import lightning.pytorch as L  # noqa: N812
import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

import etude
import etude.lightning

pytestmark = pytest.mark.filterwarnings("ignore")

PAGE = (Path(__file__).parents[2] / "docs" / "lightning.md").read_text(encoding="utf-8")


def test_the_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit, stages = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    rows = [{"input_ids": torch.randint(50, (4, 8)), "labels": torch.randint(2, (4,))} for _ in range(5)]
    loader = DataLoader(rows, batch_size=None)
    names = {"L": L, "etude": etude, "model": model, "loader": loader, "validation": loader}
    exec(fit, names)
    assert names["trainer"].global_step == 15
    body, head = (
        [name for name, _ in model.named_parameters() if ("bert" in name) == inner] for inner in (1, 0)
    )
    names |= {"body": body, "head": head}
    exec(stages, names)
    assert names["plan"].over(100).open(29) == [False, True]
    assert names["plan"].over(100).open(30) == [True, True]
