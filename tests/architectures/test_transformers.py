"""Every model type of transformers: the ladder of its classes is what the judge and the document say."""

import pytest
from proof import document, models, page
from proof.facts import facts
from proof.oracle import expected
from proof.verdicts import judge

from etude.model.leaf import Leaf

ROWS = document.rows("transformers")
REFUSED = document.refused()
EVERY = models.model_types()

# Text, vision, audio, several towers, encoder and decoder, experts, state spaces, stages; two are refused.
SAMPLE = [
    "albert",
    "bert",
    "deberta-v2",
    "eomt",
    "gemma3n_text",
    "gpt2",
    "granite_speech_encoder",
    "informer",
    "janus_vqgan",
    "llama",
    "lightglue",
    "mamba",
    "mixtral",
    "modernbert",
    "ovis2",
    "resnet",
    "roberta",
    "sam3",
    "slanet",
    "swin",
    "t5",
    "uvdoc",
    "vit",
    "wav2vec2",
    "wav2vec2-conformer",
    "yolos",
]


def verdict(model_type, name):
    """The verdict on a class of its default configuration, without a pass; skips what needs timm."""
    try:
        said = facts(models.build(model_type, name))
    except ImportError as error:
        if "timm" in str(error):
            pytest.skip("needs timm: test_timm.py")
        raise
    oracle = expected(said)
    assert not oracle.unexplained
    if name.endswith(("Model", "Backbone")):
        oracle = oracle._replace(base="")
    return judge([Leaf(*row) for row in said.rows], oracle)


def check(model_type):
    name = page.representative(models.classes(model_type))
    found = verdict(model_type, name)
    assert found.word == ("refused" if (model_type, name) in REFUSED else "right"), found.reasons[:3]
    assert page.towers(found) == document.cell(ROWS[model_type], 2)


@pytest.mark.parametrize("model_type", SAMPLE)
def test_a_class_of_many_kinds_of_models_has_the_towers_of_the_document(model_type):
    check(model_type)


@pytest.mark.all
@pytest.mark.parametrize("model_type", [one for one in ROWS if one not in SAMPLE])
def test_a_class_of_every_model_type_has_the_towers_of_the_document(model_type):
    check(model_type)


def test_every_model_type_is_in_the_document():
    text = document.PAGE.read_text(encoding="utf-8")
    assert [one for one in EVERY if one not in ROWS and f"`{one}`" not in text] == []
    assert set(ROWS) <= set(EVERY)


def test_nothing_is_wrong_and_nearly_nothing_is_refused():
    words = {name: document.cell(row, 3) for name, row in ROWS.items()}
    assert [name for name, word in words.items() if not word.startswith(("right", "refused"))] == []
    live = document.settled()
    right = [name for name, word in words.items() if word == "right" or name in live]
    assert len(right) >= 0.97 * len(words)


@pytest.mark.all
@pytest.mark.parametrize("model_type", ROWS)
def test_every_class_of_every_model_type_has_the_verdict_of_the_document(model_type):
    verdicts = {}
    for name in models.classes(model_type):
        if f"`{model_type} {name}`" in document.PAGE.read_text(encoding="utf-8"):
            continue  # not built
        found = verdict(model_type, name)
        if found.found is None or found.found.placements:
            verdicts[name] = found
    assert page.row(model_type, verdicts) == ROWS[model_type]
    assert {name for name, one in verdicts.items() if one.word != "right"} == {
        name for family, name in REFUSED if family == model_type
    }


@pytest.mark.all
@pytest.mark.parametrize(("model_type", "name"), sorted(document.settled_classes()))
def test_what_the_document_calls_settled_is_right_in_a_plan(model_type, name):
    said = facts(models.build(model_type, name))
    live = models.build(model_type, name).to_empty(device="cpu")
    found = judge([Leaf(*row) for row in said.rows], expected(said), live=lambda: live)
    assert found.word == "right", found.reasons[:3]
