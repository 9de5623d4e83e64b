"""The names that other libraries have for what a plan can do, for who types them."""

from collections.abc import Iterable

from etude.errors import PlanError, near

# What timm, ELECTRA, AllenNLP, fastai, axolotl, LLaMA-Factory, ms-swift, peft, Megatron and NeMo call them.
BY_NAME = 'groups=[("name", {"weight_decay": 0})] for single ones, no_decay for kinds of parameters'
OTHERS = {
    "learning_rate": "lr",
    "max_lr": "lr",
    "base_lr": "lr",
    "layerwise_lr_decay": "layer_decay",
    "layerwise_lr_decay_power": "layer_decay",
    "llrd": "layer_decay",
    "lr_decay": "layer_decay",
    "decay_factor": "layer_decay",
    "discriminative_fine_tuning": 'convention="ulmfit"',
    "layer_decay_min_scale": "min_scale",
    "head_lr": "head, its rate / lr",
    "decoupled_lr": "head, its rate / lr",
    "embedding_lr": "embeddings, their rate / lr",
    "embedding_learning_rate": "embeddings, their rate / lr",
    "embedding_lr_scale": "embeddings",
    "no_weight_decay": BY_NAME,
    "no_weight_decay_list": BY_NAME,
    "loraplus_lr_ratio": "lora_plus",
    "lorap_lr_ratio": "lora_plus",
    "freeze_to": "freeze",
    "freeze_trainable_layers": "freeze",
    "layer_decay_no_opt_scale": "freeze",
    "unfreeze": "stages",
    "gradual_unfreezing": "stages",
    "freeze_epochs": "stages",
    "missing_keys": "new",
    "lr_groups": "groups",
    "param_group_overrides": "groups",
    "paramwise_cfg": "groups",
    "betas": "momentum for the first; the second is the optimizer's",
}


def refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `PlanError` for the first option that is not known, with what it is called here.

    >>> refuse_unknown("plan", ["llrd"], ["layer_decay", "head"])
    Traceback (most recent call last):
    etude.errors.PlanError: plan has no 'llrd'; write layer_decay
    """
    names = [*known]
    for name in given:
        if name not in names:
            instead = f"; write {OTHERS[name]}" if name in OTHERS else near(name, names)
            raise PlanError(f"{what} has no {name!r}{instead}")
