"""Every architecture of timm, in processes of their own: verdict and order beside timm's own layer ids.

timm needs a torchvision that must not meet the other tests. ETUDE_TIMM names a folder with both, as in the
Makefile: `pip install --target FOLDER --no-deps timm==1.0.31 torchvision==0.28.0`. The facts of tricky
ones are kept beside this file, so that they are judged without timm.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from proof import document, page, ranks, verdicts
from proof.timm_models import Kept

from etude.model.ladder import ladder
from etude.model.leaf import Leaf

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("ETUDE_TIMM", HERE.parents[1] / "build" / "timm"))
CHUNKS = 6
ROWS = document.rows("timm")
NO_PASS = ranks.Pass([], [])


def sample():
    """Facts of architectures that were hard, each with its blocks as counted in timm's code."""
    facts = json.loads(gzip.decompress((HERE / "timm_sample.json.gz").read_bytes()))
    for key, (rows, ids, head, blocks) in facts.items():
        yield key, (Kept([(n, tuple(s), t, m, None) for n, s, t, m in rows], ids, NO_PASS, head), blocks)


SAMPLE = dict(sample())

CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from proof import models, page, ranks, store, timm_models
from judge import timm, transformers
models.with_timm(sys.argv[2])
wanted = lambda key: True
for module, names in list(timm_models.names().items())[int(sys.argv[3]) :: int(sys.argv[4])]:
    kept = {name: timm_models.build(name, run=name == names[0]) for name in names}
    found = list(timm(kept, f"timm/{module}", wanted))
    judged = page.JudgedTimm({c.name: c.verdict for c in found}, {c.name: c.relation for c in found})
    print(json.dumps([module, page.timm_row(module, judged)]), flush=True)
"""

needs_timm = pytest.mark.skipif(
    not (FOLDER / "torchvision").is_dir(),
    reason=f"no timm and torchvision in {FOLDER}: `make test-all` puts them there",
)


@pytest.mark.all
@needs_timm
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_architecture_has_the_verdict_of_the_document(chunk):
    words = [sys.executable, "-c", CHILD, str(HERE), str(FOLDER.resolve()), str(chunk), str(CHUNKS)]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    found = dict(json.loads(line) for line in run.stdout.splitlines())
    assert found == {module: ROWS[module] for module in found}
    assert len(found) == len(range(chunk, len(ROWS), CHUNKS))


@pytest.mark.parametrize("key", SAMPLE)
def test_tricky_architectures_are_right(key):
    one, blocks = SAMPLE[key]
    verdict, _ = ranks.judge(key.partition(":")[0], one)
    assert verdict.reasons == ()
    assert verdict.found.towers == {"": blocks}


def test_a_head_that_a_checkpoint_has_is_found():
    one, _ = SAMPLE["efficientnet:efficientnet_b0"]
    whole = one._replace(head=["conv_head", "bn2", "classifier"])
    verdict, _ = ranks.judge("efficientnet", whole)
    assert verdict.word == "wrong"
    assert "conv_head.weight at top, by timm a part of the head" in verdict.reasons


def test_blocks_beside_each_other_are_found():
    leaves, ids = blocks(3)
    order = [leaf.name for leaf in leaves]
    chained = ranks.Pass(order, [(1 << i) - 1 for i in range(len(order))])
    rows = [tuple(leaf) for leaf in leaves]
    assert ranks.judge("plain", Kept(rows, ids, chained, ["head"]))[0].word == "right"
    stem = ranks.Pass(order, [1] * len(order))  # every block sees the stem alone
    verdict, _ = ranks.judge("plain", Kept(rows, ids, stem, ["head"]))
    assert verdict.reasons[:1] == ("layer.1 is not fed by layer.0",)


def blocks(count):
    """A plain model of some blocks, by its leaves and by the ids that timm would give it."""
    names = [f"blocks.{i}.{part}.weight" for i in range(count) for part in ("attn", "mlp")]
    leaves = [Leaf("stem.weight", (4, 3, 2, 2), module="Conv"), *(Leaf(name, (4, 4)) for name in names)]
    leaves += [Leaf("norm.weight", (4,), module="Norm"), Leaf("head.weight", (2, 4), module="Linear")]
    ids = {name: 1 + int(name.split(".")[1]) for name in names}
    return leaves, ids | {"stem.weight": 0, "norm.weight": count, "head.weight": count + 1}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda ids: ids, "same"),
        (lambda ids: {name: rank // 2 for name, rank in ids.items()}, "finer"),
        (lambda ids: {name: 2 * rank + ("attn" not in name) for name, rank in ids.items()}, "coarser"),
        (lambda ids: {name: rank and 9 - rank for name, rank in ids.items()}, "inverted"),
    ],
)
def test_the_relation_to_the_ids_of_timm(change, word):
    leaves, ids = blocks(6)
    assert ranks.relation(ladder(leaves), change(ids)).word == word


def test_a_row_counts_verdicts_and_relations():
    leaves, ids = blocks(6)
    verdict, relation = ranks.judge("plain", Kept([tuple(leaf) for leaf in leaves], ids, NO_PASS, ["head"]))
    bad = verdicts.Verdict("refused", ("no",), None)
    judged = page.JudgedTimm({"a": verdict, "b": bad}, {"a": relation, "b": ""})
    assert page.timm_row("plain", judged) == "| plain | 2 | 6 | refused 1 of 2 | same |"
