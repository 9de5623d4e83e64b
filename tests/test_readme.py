"""The README's own example runs as it is printed, and its commands exist."""

import re
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_library_example_trains_a_model_with_the_planned_rates():
    code, finder = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = BertForSequenceClassification(config)
    before = model.classifier.weight.detach().clone()
    loader = [{"input_ids": torch.randint(50, (4, 8)), "labels": torch.randint(2, (4,))} for _ in range(5)]
    names = {"model": model, "loader": loader, "epochs": 2, "evaluate": lambda model: 0.0}
    exec(code, names)
    driver = names["driver"]
    assert names["k"] == 9
    assert driver.read("lr") == driver.at(9)["lr"]
    assert max(driver.read("lr")) == driver.read("lr")[-1]
    assert not torch.equal(model.classifier.weight, before)
    names |= {"batch": loader[0], "rates": driver.rates, "sink": None}
    exec(finder, names)
    assert len(names["found"].losses) > 10
    assert names["driver"].observe(1, {"eval_loss": 1.0}) == ()


def test_every_command_of_the_readme_is_one_of_the_program():
    from etude.cli import application

    known = {command.name for command in application().registered_commands}
    named = set(re.findall(r"\betude (\w+)", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))))
    assert {"finetune", "init", "predict", "show", "groups"} <= named <= known


def test_every_link_of_the_readme_leads_somewhere():
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\(([\w/.-]+\.\w+)\)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []
