"""Recipes: numbers are numbers everywhere, nothing is guessed, and what is written reads back equal."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.core.text import parse
from etude.errors import EtudeWarning, RecipeError
from etude.train.recipe import FIELDS, Recipe, read, template


def from_yaml(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path, overrides)[0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-5", 2e-5), ("1e-4", 1e-4), ("2.0E-05", 2e-5), (".01", 0.01), ("'2e-5'", 2e-5), ('"1e-4"', 1e-4),
        ("2e-5 * 2", 4e-5), ("1e-5/2", 5e-6),
    ],
)  # fmt: skip
def test_a_rate_is_a_number_in_yaml_on_the_command_line_and_in_python(tmp_path, written, value):
    assert from_yaml(tmp_path, f"lr: {written}").lr == value
    assert read(overrides=[f"lr={written}"])[0].lr == value
    python = read(overrides={"lr": written.strip("'\"")})[0].lr
    assert python == value
    assert type(python) is float


@pytest.mark.parametrize("value", [np.float64(2e-5), np.float32(0.5) / 2**14])
def test_a_numpy_scalar_becomes_a_python_number(value):
    lr = read(overrides={"lr": value})[0].lr
    assert type(lr) is float
    assert lr == float(value)


def test_whole_numbers_may_be_written_as_floats_and_texts(tmp_path):
    recipe = from_yaml(tmp_path, "updates: 1e4\nbatch: '32'\nseed: 0x10\nkeep: 3.0")
    assert (recipe.updates, recipe.batch, recipe.seed, recipe.keep) == (10_000, 32, 16, 3)
    assert all(type(x) is int for x in (recipe.updates, recipe.batch, recipe.seed, recipe.keep))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("lr=fast", "lr must be a number or a schedule, got 'fast'; write for example lr: 2e-4"),
        ("lr=nan", "lr must be a finite number, got 'nan'"),
        ("lr=inf", "finite"),
        ("lr=-2e-5", "lr must not be negative"),
        ("lr=0", "lr must be above 0"),
        ("lr=true", "lr must be a number, got True"),
        ("lr=", "lr must be a number, got None"),
        ("lr=[1e-5]", "lr must be a number"),
        ("lr=warmup(0.1) >> cosine()", "begin with its peak, as in 2e-4 * (warmup(0.1) >> cosine())"),
        ("lr=2e-4 * (warmpu(0.1) >> cosine())", "did you mean 'warmup'"),
        ("lr=-2e-4 * cosine()", "negative"),
        ("schedule=2e-4 * cosine()", "schedule must be a path without its peak"),
        ("schedule=1", "schedule must be a path"),
        ("schedule=warmup(1.5) >> cosine()", "a fraction lies between 0 and 1"),
        ("weight_decay=-0.1", "weight_decay must not be negative"),
        ("weight_decay=cosine()", "begin with its peak"),
        ("layer_decay=1.1", "layer_decay must be less than or equal to 1"),
        ("layer_decay=0", "layer_decay must be greater than 0"),
        ("head=0", "head must be greater than 0"),
        ("epochs=0", "epochs must be greater than 0"),
        ("updates=0.5", "updates must be a whole number"),
        ("batch=0", "batch must be greater than or equal to 1"),
        ("clip=0", "clip must be greater than 0, got 0; write for example clip: 1.0 (largest norm"),
        ("precision=fp8", "precision must be 'no', 'bf16' or 'fp16'"),
        ("eval_every=1.0", 'write 1 for one update or "100%"'),
        ("eval_every=0", "a length above 0"),
        ("eval_every=0ep", "a length above 0"),
        ("eval_every=5 minutes", "eval_every must be a length"),
        ("label=yes", "put it in quotes"),
        ("text=", "text must be a text"),
        ("seed=-1", "seed must be"),
        ("split=80/10", "split must be three percentages"),
        ("split=0.5/10/10", "split must be three percentages"),
        ("split=90/10/0", "split must be three percentages"),
        ("epohs=3", "unknown key 'epohs'; did you mean 'epochs'?"),
        ("learning_rat=3", "did you mean 'learning_rate'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_key_and_what_to_write(setting, says):
    with pytest.raises(RecipeError) as caught:
        read(overrides=[setting])
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["epochs=1", "updates=2"], "epochs and updates both say the length of the run"),
        (
            ["num_train_epochs=1", "max_steps=2"],
            "num_train_epochs and max_steps both say the length of the run",
        ),
        (["lr=1e-4*cosine()", "schedule=hold()"], "lr and schedule both say"),
    ],
)
def test_two_keys_that_contradict_each_other_are_refused(settings, says):
    with pytest.raises(RecipeError, match=says):
        read(overrides=settings)


def test_every_fault_is_reported_at_once_with_its_own_line():
    with pytest.raises(RecipeError) as caught:
        read(overrides=["batch=0", "lr=fast", "epochs=-1"])
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["lr", "epochs", "batch"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [("--lr=3", "write lr=3"), ("lr", "write key=value"), ("=3", "write key=value"), ("data=@x", "as YAML")],
)
def test_an_override_that_is_no_setting_is_refused(setting, says):
    with pytest.raises(RecipeError, match=says):
        read(overrides=[setting])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"lr: [1", "line 2"),
        (b"- lr\n- 3", "key: value"),
        (b"42", "YAML|recipe"),
        (b"lr: 1e-4\nlr: 2e-4", "duplicate key lr"),
        (b"name: ${nowhere}", "nowhere"),
        (b"name: caf\xe9", "not UTF-8"),
        (b"training:\n  lr: 3", "unknown key 'training'"),
        (b"a: !!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_name(tmp_path, source, says):
    path = tmp_path / "mine.yaml"
    path.write_bytes(source)
    with pytest.raises(RecipeError, match=says):
        read(path)
    assert not Path("pwned").exists()


def test_a_missing_recipe_is_one_line(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: the recipe cannot be read: No such file"):
        read(tmp_path / "nowhere.yaml")


def test_yaml_words_for_no_and_null_are_understood(tmp_path):
    recipe = from_yaml(tmp_path, "precision: no\nclip: null\nname: 2026\nsplit: [2000, 1000, 1000]")
    assert (recipe.precision, recipe.clip, recipe.name) == ("no", None, "2026")
    assert recipe.parts == (2000, 1000, 1000)
    assert from_yaml(tmp_path, "split: 80/10/10").parts == (0.8, 0.1, 0.1)


def test_the_command_line_wins_also_where_it_says_the_same_in_another_word(tmp_path):
    written = "epochs: 3\nlearning_rate: 2e-5\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\n"
    assert from_yaml(tmp_path, written, "updates=100", "lr=3e-5").epochs is None
    assert from_yaml(tmp_path, written, "lr=3e-5").lr == 3e-5
    assert from_yaml(tmp_path, written, "schedule=hold()").schedule == "hold()"
    assert from_yaml(tmp_path, written, "warmup_steps=50").schedule == "warmup(50) >> cosine()"
    assert from_yaml(tmp_path, written, "lr_scheduler_type=linear").schedule == "warmup(0.1) >> linear()"
    other = "lr_scheduler_type: polynomial\nlr_scheduler_kwargs: {power: 3}\nwarmup_steps: 5"
    assert from_yaml(tmp_path, other, "lr_scheduler_type=linear").schedule == "warmup(5) >> linear()"
    assert from_yaml(tmp_path, "schedule: hold()", "lr_scheduler_type=linear").schedule == "linear()"
    whole = from_yaml(tmp_path, written, "lr=1e-4 * linear()")
    assert (whole.lr, whole.schedule, whole.lr_schedule) == ("1e-4 * linear()", None, "0.0001 * linear()")


def test_half_of_what_the_file_says_as_a_whole_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="is a peak, and the recipe's lr is a whole schedule"):
        from_yaml(tmp_path, "lr: 1e-4 * linear()", "lr=2e-4")
    assert (
        from_yaml(tmp_path, "lr: 1e-4 * linear()", "lr=2e-4", "schedule=hold()").lr_schedule
        == "0.0002 * hold()"
    )
    with pytest.raises(RecipeError, match="warmup_ratio says a part of the schedule"):
        from_yaml(tmp_path, "schedule: warmup(5) >> linear()", "warmup_ratio=0.1")


def test_defaults_are_settled():
    recipe = Recipe()
    assert (recipe.schedule, recipe.epochs, recipe.updates) == ("warmup(0.1) >> cosine(to=0.01)", 3.0, None)
    assert parse(recipe.lr_schedule).over(1000)(100) == 1e-4
    assert read()[0] == recipe


def test_a_schedule_object_is_taken_as_its_text():
    recipe = read(overrides={"lr": parse("1e-4 * (warmup(5) >> linear())")})[0]
    assert recipe.lr == recipe.lr_schedule == "0.0001 * (warmup(5) >> linear())"


def test_the_template_says_every_key_with_its_meaning_and_is_the_default_recipe(tmp_path):
    assert from_yaml(tmp_path, template()) == Recipe()
    lines = template().splitlines()
    for key, info in FIELDS.items():
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{key}: "))
        assert lines[at - 1] == f"# {info.description}"


def test_every_example_in_an_error_message_is_itself_right():
    for key, info in FIELDS.items():
        for example in info.examples:
            assert getattr(read(overrides={key: example})[0], key) is not None


@pytest.mark.parametrize("lr", ["2", "1e-12", "5 * hold()"])
def test_an_unusual_rate_warns(lr):
    with pytest.warns(EtudeWarning, match="is unusual"):
        read(overrides=[f"lr={lr}"])


TRICKY = [
    "yes",
    "no",
    "null",
    "~",
    "1e-4",
    "007",
    "1:30",
    "${x}",
    "\\${x}",
    "a\\\\${b}${",
    "2026-11-22",
    "a: b",
    "# c",
]
TRICKY += ["- a", "!x", "*a", "&a", "%", "@", "`", "'", '"', "''", "[", "{", "\\", "=", "<<", "é ü"]
LETTERS = "".join(map(chr, range(32, 127))) + "éü…😀\u2028\u00a0\\$"
TEXT = st.sampled_from(TRICKY) | st.text(LETTERS, max_size=20)
TEXT = TEXT.map(str.strip).filter(lambda text: text and text.isprintable())
NAME = TEXT.map(re.escape).filter(lambda text: not text.isdecimal())  # a regular expression
RATE = st.floats(1e-8, 0.1)
PATHS = ["hold()", 'warmup("6%") >> linear()', "warmup(5) >> (hold() >> sqrt(0.2))"]
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "model": TEXT,
        "name": TEXT,
        "metric": st.none() | TEXT,
        "lr": RATE,
        "layer_decay": st.floats(1e-300, 1) | st.lists(RATE, min_size=1) | st.dictionaries(TEXT, RATE),
        "embeddings": st.none() | RATE,
        "min_scale": st.just(0.0) | st.floats(0, 1e-9),
        "no_decay": st.lists(st.sampled_from(["bias", "norm", "vector", "embedding"])),
        "freeze": st.none() | st.integers(0, 40) | st.lists(NAME) | st.dictionaries(NAME, st.integers(0, 40)),
        "new": st.lists(TEXT),
        "groups": st.lists(st.fixed_dictionaries({"match": NAME, "lr_scale": RATE, "freeze": st.booleans()})),
        "clip": st.none() | st.floats(1e-300, 1e300),
        "schedule": st.sampled_from(PATHS),
        "weight_decay": RATE | st.just("0.1 * linear()"),
        "epochs": st.floats(1e-9, 1e9),
        "batch": st.integers(1, 10**9),
        "eval_every": st.sampled_from(["6%", "2.5ep"]) | st.integers(1, 10**6) | st.floats(1e-9, 0.999),
        "split": st.sampled_from(["80/10/10", "0.8/0.1/0.1", "20/10/10"]),
        "precision": st.sampled_from(["no", "bf16"]),
    },
)


@given(RECIPES)
def test_a_dumped_recipe_reads_back_equal(tmp_path_factory, values):
    recipe = read(overrides=values)[0]
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(recipe.dump(), encoding="utf-8")
    assert read(path) == (recipe, [])
    assert [line.split(":")[0] for line in recipe.dump().splitlines()] == list(FIELDS)
