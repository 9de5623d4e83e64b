"""What a user can get wrong: one clear message, exit code 2, no traceback, nothing written."""

import json

import datasets
import huggingface_hub
import pytest
import torch

from etude.cli import main

ROWS = "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(40))
CSV = "text,label\n" + ROWS


@pytest.fixture
def here(tiny, tmp_path, monkeypatch):
    """A folder with a data file and a model, in which a user types."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "my.csv").write_text(CSV)
    (tmp_path / "model").symlink_to(tiny.model)
    return tmp_path


def listing(folder):
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def refused(here, capsys, *words: str) -> str:
    """The message on standard error, after checking that it is all there is."""
    before = listing(here)
    capsys.readouterr()
    assert main(list(words)) == 2
    out, said = capsys.readouterr()
    assert said.startswith("etude: ")
    assert "Traceback" not in said + out
    assert "validation at" not in out
    assert len(said) < 1000
    assert listing(here) == before
    return said


DATA = [
    ("mine.csv", None, "there is no file 'mine.csv'; did you mean 'my.csv'"),
    ("x.csv", "", "x.csv is empty"),
    ("x.csv", "text,label\n", "x.csv is empty: it has the columns text, label and no rows"),
    ("x.csv", "words,label\na,b\n", "has no column 'text'; known: label, words; write text=NAME"),
    ("x.csv", "text,class\na,b\n", "has no column 'label'; known: class, text; write label=NAME"),
    ("x.csv", "text,label\na,x\nb,x\nc,x\n", "every label is 'x'; classification needs at least two classes"),
    (
        "x.csv",
        CSV + "odd,\nodd,NaN\n",
        "2 of 42 labels in the column 'label' are empty or NaN (lines 42, 43)",
    ),
    ("x.csv", CSV + "odd,c\n", "a class needs at least 3 examples, one for each part drawn; 'c' has 1"),
    ("x.csv", CSV + ",a\n", "entries in the column 'text' are empty or not texts (line 42)"),
    ("x.csv", CSV.encode() + b"caf\xe9,a\n", "x.csv is not UTF-8: byte 0xe9 on line 42"),
    ("x.jsonl", '{"text": "a", "label": 1}\n{"text"', "line 2 is not JSON"),
    ("x.parquet", "no parquet", "not a readable Parquet file"),
    ("x.xlsx", "a", "x.xlsx is neither a recipe (.yaml) nor a data file (.csv, .tsv, .jsonl, .parquet)"),
]


@pytest.mark.parametrize(("name", "content", "message"), DATA)
def test_data_that_cannot_be_learned_from(here, capsys, name, content, message):
    if content is not None:
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(here, capsys, "finetune", name, "model=./model")


def test_a_label_that_train_lacks(here, capsys):
    part = {"text": ["a b", "c d"] * 4, "label": ["x", "y"] * 4}
    odd = {"text": ["a b"], "label": ["z"]}
    parts = {"train": part, "validation": part, "test": odd}
    datasets.DatasetDict({k: datasets.Dataset.from_dict(v) for k, v in parts.items()}).save_to_disk("disk")
    assert "the label 'z' is not in train (row 1)" in refused(
        here, capsys, "finetune", "data=disk", "model=./model"
    )


KEYS = [
    (["lr=fast"], "lr must be a number or a schedule, got 'fast'"),
    (["lr=-1e-4"], "lr must not be negative, got -0.0001"),
    (["lr=nan"], "lr must be a finite number, got 'nan'"),
    (["lr=.nan"], "lr must be a finite number, got nan"),
    (["lr=0"], "lr must be above 0"),
    (["lr=warmup(0.1) >> cosine()"], "must begin with its peak"),
    (["lr=2e-4 * (warmup(0.1) >> cosin())"], "did you mean 'cosine'"),
    (["schedule=warmup(500) >> cosine()"], "is too long: its pieces take 500 of 6 updates"),
    (["schedule=warmup(0.6) >> cosine(0.6)"], "is too long"),
    (["schedule=warmup(1) >> linear(2)"], "too short: its pieces take 3 of 6 updates; write warmup(1) >> "),
    (["schedule=warmup(1.0) >> cosine()"], 'over=1.0 is ambiguous: write 1 for one update or "100%"'),
    (["schedule=warmup(2.5) >> cosine()"], "over=2.5 is no length"),
    (["schedule=warmup('5 steps') >> cosine()"], "is no length: write a number with %, "),
    (["eval_every=1.0"], "is ambiguous"),
    (["eval_every=0"], "eval_every must be a length above 0"),
    (["warmup_steps=500"], "is too long: its pieces take 500 of 6 updates"),
    (["learning_rat=1e-4"], "unknown key 'learning_rat'; did you mean 'learning_rate'"),
    (["optim=adafactor"], "the optimizer is AdamW"),
    (["epochs=2", "updates=10"], "epochs and updates both say the length of the run"),
    (["lr=1e-4", "learning_rate=1e-4"], "both say lr"),
    (["layer_decay=1.5"], "layer_decay must be less than or equal to 1, got 1.5"),
    (["head=0"], "head must be greater than 0"),
    (["batch=0"], "batch must be greater than or equal to 1"),
    (["metric=acuracy"], "metric: classification has no 'acuracy'; did you mean 'accuracy'"),
    (["task=clasification"], "there is no task 'clasification'; did you mean 'classification'"),
    (["task=regression"], "regression needs a number as label, got 'a'"),
    (["split=50/50"], "three percentages that add up to 100"),
    (["split=100/10/10"], "needs more than its 40 rows"),
    (["max_length=4096"], "this model reads at most 512 tokens: write 512"),
    (["model=./nowhere"], "model './nowhere': there is no such folder"),
    (["model=nobody/nothing"], "model 'nobody/nothing' cannot be loaded"),
    (["model=package:nothing"], "pip install nothing"),
    (["data=package:nothing"], "no data is known under 'package:nothing'"),
    (["model=."], "the folder has no config.json"),
    (["my.csv"], "one recipe, data file or run can be named, got my.csv and my.csv"),
    (["--on-mismatch", "recipe"], "write it beside --resume"),
    (["output=my.csv"], "my.csv is a file"),
    (["output=model"], "model is occupied, and nothing is written over"),
    (["output=my.csv/run"], "my.csv/run cannot be made"),
]


@pytest.mark.parametrize(("words", "message"), KEYS)
def test_a_recipe_that_cannot_be(here, capsys, words, message):
    """32 texts to train on are 6 updates."""
    base = {"model": "./model", "max_length": 16, "updates": "6"}
    given = {word.partition("=")[0] for word in words}
    if "epochs" in given:
        del base["updates"]
    usual = [f"{key}={value}" for key, value in base.items() if key not in given]
    assert message in refused(here, capsys, "finetune", "my.csv", *usual, *words)


def test_half_precision_without_a_gpu(here, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused(here, capsys, "finetune", "my.csv", "model=./model", "precision=fp16")
    assert "precision: fp16 needs a GPU, and there is none; write precision=bf16" in said


RECIPES = [
    ("lr: [1", "cannot be read as YAML"),
    ("- a\n- b", "is no recipe: write key: value lines"),
    ("lr: 1e-4\nlearning_rates: 3\n", "unknown key 'learning_rates'; did you mean 'learning_rate'"),
    (b"name: caf\xe9", "is not UTF-8"),
]


@pytest.mark.parametrize(("content", "message"), RECIPES)
def test_a_recipe_file_that_cannot_be_read(here, capsys, content, message):
    (here / "recipe.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(here, capsys, "finetune", "recipe.yaml")


def test_what_is_no_recipe_no_data_and_no_run(here, capsys):
    assert "the recipe cannot be read: No such file" in refused(here, capsys, "finetune", "gone.yaml")
    assert "; a data set is data=imdb" in refused(here, capsys, "finetune", "imdb")
    assert "there is no run in runs" in refused(here, capsys, "finetune", "--resume")
    assert "model is no run: it lacks recipe.yaml" in refused(here, capsys, "finetune", "--resume", "model")
    assert "there is no folder nowhere" in refused(here, capsys, "predict", "nowhere", "a text")
    assert "there is no file 'new.csv'" in refused(here, capsys, "predict", "model", "new.csv")
    (here / "empty.txt").write_text("\n \n")
    assert "there is no text" in refused(here, capsys, "predict", "model", "empty.txt")
    (here / "latin.txt").write_bytes(b"caf\xe9\n")
    assert "latin.txt is not UTF-8" in refused(here, capsys, "predict", "model", "latin.txt")
    assert "model is no run folder" in refused(here, capsys, "report", "model")
    assert "my.csv is there already" in refused(here, capsys, "init", "my.csv")


def test_a_model_without_its_weights(here, tiny, capsys):
    (here / "half").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (here / "half" / name).write_bytes((tiny.model / name).read_bytes())
    assert "model './half' cannot be loaded" in refused(here, capsys, "finetune", "my.csv", "model=./half")
    assert "model 'half' cannot be loaded" in refused(here, capsys, "predict", "half", "a text")


def test_a_tokenizer_that_does_not_know_how_much_its_model_reads(here, tiny, capsys):
    (here / "other").mkdir()
    for file in tiny.model.iterdir():
        (here / "other" / file.name).write_bytes(file.read_bytes())
    settings = json.loads((here / "other" / "tokenizer_config.json").read_text())
    del settings["model_max_length"]
    (here / "other" / "tokenizer_config.json").write_text(json.dumps(settings))
    said = refused(here, capsys, "finetune", "my.csv", "model=./other", "max_length=513")
    assert "this model reads at most 512 tokens: write 512" in said


@pytest.mark.filterwarnings("default::etude.errors.EtudeWarning")
def test_an_unusual_rate_is_a_warning_of_one_line(here, capsys):
    assert main(["finetune", "my.csv", "model=./model", "lr=5", "--dry-run"]) == 0
    assert capsys.readouterr().err == (
        "etude: lr: a peak of 5 is unusual: fine-tuning with AdamW lies between 1e-6 and 1e-2\n"
    )
