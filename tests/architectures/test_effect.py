"""The effect, not the dictionary: one real update with unit gradients moves each tensor by its multiplier.

The loss is the sum of all weights, so that every gradient is 1, and the weights begin at 0: plain SGD then
moves a tensor to minus its rate, through whatever wraps model and optimizer. Peak, decay and head are powers
of two, so that the very numbers are compared. `etude.verify` must say beforehand what the update then does.
"""

import contextlib
import io
import itertools
import warnings

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import etude
from etude.torch.verify import verify

PEAK, DECAY, HEAD = 2.0**-6, 0.5, 8.0

# By the words that configurations have for them: layers, widths, heads, positions, tokens, pixels.
SMALL = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"), 3),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(
        ("hidden_size", "n_embd", "dim", "d_model", "emb_dim", "embedding_size", "embed_dim"), 16
    ),
    **dict.fromkeys(("word_embed_proj_dim", "projection_dim"), 16),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_ff", "d_inner", "ffn_dim"), 24),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 24),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "d_head"), 8),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_source_positions", "max_target_positions"), 32
    ),
    **dict.fromkeys(("num_mel_bins", "patch_size"), 8),
    **dict.fromkeys(("num_local_experts", "eos_token_id", "sep_token_id", "decoder_start_token_id"), 2),
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 1),
    "pad_token_id": 0,
    "vocab_size": 96,
    "image_size": 32,
}
# Several sizes that only make sense together.
SPECIAL = {
    "swin": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
    "convnext": {"depths": [2, 2], "hidden_sizes": [8, 16], "num_stages": 2},
    "resnet": {"embedding_size": 8, "depths": [2, 2], "hidden_sizes": [8, 16], "layer_type": "basic"},
    "wav2vec2": {"conv_dim": [8, 8], "conv_kernel": [3, 3], "conv_stride": [2, 2],
                 "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4,
                 "num_conv_pos_embedding_groups": 2},
    "xlnet": {"num_attention_heads": 2},
}  # fmt: skip
FAMILIES = {
    "bert": "SequenceClassification",
    "roberta": "SequenceClassification",
    "distilbert": "SequenceClassification",
    "electra": "TokenClassification",
    "deberta-v2": "SequenceClassification",
    "modernbert": "SequenceClassification",
    "albert": "MaskedLM",
    "xlnet": "SequenceClassification",
    "gpt2": "CausalLM",
    "gpt_neox": "CausalLM",
    "opt": "CausalLM",
    "llama": "SequenceClassification",
    "qwen2": "CausalLM",
    "gemma": "CausalLM",
    "mixtral": "CausalLM",
    "mamba": "CausalLM",
    "t5": "Seq2SeqLM",
    "bart": "Seq2SeqLM",
    "whisper": "SpeechSeq2Seq",
    "wav2vec2": "AudioClassification",
    "vit": "ImageClassification",
    "swin": "ImageClassification",
    "convnext": "ImageClassification",
    "resnet": "ImageClassification",
    "clip": "ZeroShotImageClassification",
}


def small(config, family):
    """The sizes of a configuration, and of those inside it, made small."""
    chosen = {key: value for key, value in SMALL.items() if key in config} | SPECIAL.get(family, {})
    for key, inner in config.items():
        if isinstance(inner, dict) and key.endswith("_config"):
            chosen[key] = small(inner, family)
    return chosen


def of_transformers(family):
    config = CONFIG_MAPPING[family]
    name = f"AutoModelFor{FAMILIES[family]}"
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(modeling_auto, name).from_config(config(**small(config().to_dict(), family)))


class Recurrent(nn.Module):
    """Embeddings, a recurrent net of two layers, an output layer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(9, 4)
        self.rnn = nn.LSTM(4, 4, num_layers=2)
        self.decoder = nn.Linear(4, 9)


class Convolutional(nn.Module):
    """Blocks of convolutions in a row, then a classifier."""

    def __init__(self):
        super().__init__()
        wide = itertools.pairwise((3, 4, 4, 4))
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.ReLU()) for a, b in wide]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(4, 2)


def parts():
    """Three layers of different kinds, which the user settles by hand."""
    return nn.ModuleDict({"body": nn.Linear(4, 4), "neck": nn.LayerNorm(4), "head": nn.Linear(4, 2)})


BY_HAND = {
    "layer_decay": 1.0,
    "head": 1.0,
    "groups": [("body", {"lr_scale": 0.25}), ("head", {"lr_scale": 4.0})],
}
PLAIN = {
    "a recurrent net": (Recurrent, {}),
    "a convolutional net": (Convolutional, {}),
    "groups by hand": (parts, BY_HAND),
}
EVERY = [*FAMILIES, *PLAIN]

# Their output layer is the embedding, or stands in the backbone.
HEADLESS = {"gpt2", "opt", "gemma", "mamba", "t5", "bart", "whisper", "clip", "a recurrent net"}


def build(family):
    """The model with all weights 0, and what is asked of `etude.plan`."""
    make, own = PLAIN.get(family, (lambda: of_transformers(family), {}))
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    head = 1.0 if family in HEADLESS else HEAD
    return model, {"layer_decay": DECAY, "head": head, "weight_decay": 0.5} | own


def loss_of(model):
    """The sum of all weights that train: every gradient is 1."""
    return torch.stack([parameter.sum() for parameter in model.parameters() if parameter.requires_grad]).sum()


def check(model, plan):
    """Every tensor that trains has a group, and moved by exactly its rate; a frozen one did not."""
    moved = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    training = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    owners = plan.owners(moved, training)
    scales = dict(zip((group.name for group in plan.groups), plan.scale("lr"), strict=True))
    rates = {name: -PEAK * scales[owners[name]] for name in training}
    assert moved == {name: [rates.get(name, 0.0)] for name in moved}
    assert len(set(rates.values())) >= 3


@pytest.mark.parametrize("family", EVERY)
def test_through_the_torch_adapter(family):
    model, asked = build(family)
    plan = etude.plan(model, PEAK, **asked)
    optimizer = torch.optim.SGD(plan.torch_groups(model))
    etude.Driver(plan.over(10), etude.torch.sink(optimizer)).apply(3)
    assert not verify(model, torch.optim.SGD(model.parameters(), lr=PEAK), plan).ok
    verify(model, optimizer, plan).check()
    loss_of(model).backward()
    optimizer.step()
    check(model, plan)


class Unit(Trainer):
    """A trainer of any model: it has no data to speak of."""

    def compute_loss(self, model, inputs, **more):
        return loss_of(model)


class Before(TrainerCallback):
    """Verifies the stack as the trainer has wrapped it."""

    def __init__(self, attached):
        self.attached, self.found = attached, None

    def on_train_begin(self, args, state, control, **more):
        attached = self.attached
        now = attached.driver.at(attached.t)
        self.found = verify(attached.trainer.model_wrapped, more["optimizer"], attached.plan, now)


@pytest.mark.parametrize("family", EVERY)
def test_through_the_trainer(family, tmp_path):
    model, asked = build(family)
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, per_device_train_batch_size=1, optim="sgd", max_grad_norm=0.0,
        save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Unit(model, arguments, train_dataset=[{"labels": 0}])
    attached = etude.attach(trainer, PEAK, **asked)
    before = Before(attached)
    trainer.add_callback(before)
    trainer.train()
    before.found.check()
    check(model, attached.plan)


@pytest.mark.parametrize("family", EVERY)
def test_through_accelerate(family, accelerator):
    model, asked = build(family)
    plan = etude.plan(model, PEAK, **asked)
    optimizer = torch.optim.SGD(plan.torch_groups(model))
    etude.Driver(plan.over(10), etude.torch.sink(optimizer)).apply(3)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    verify(prepared, optimizer, plan).check()
    accelerator.backward(loss_of(prepared))
    optimizer.step()
    check(model, plan)


@pytest.mark.all
@pytest.mark.filterwarnings("ignore:.*(num_workers|`training_step`|litlogger|eval mode).*")
@pytest.mark.parametrize("family", EVERY)
def test_through_lightning(family):
    lightning = pytest.importorskip("lightning.pytorch", reason="the fits are Lightning's")
    import etude.lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.asked = build(family)

        def training_step(self, batch, batch_idx):
            return loss_of(self.net)

        def configure_optimizers(self):
            return etude.lightning.configure_optimizers(self, PEAK, optimizer=torch.optim.SGD, **self.asked)

        def on_train_start(self):
            self.plan = self.lr_schedulers().driver.rates.plan
            self.found = verify(self, self.optimizers(), self.plan)

    module = Module()
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", **dict.fromkeys(quiet, False))
    trainer.fit(module, torch.utils.data.DataLoader([0]))
    module.found.check()
    check(module, module.plan)
