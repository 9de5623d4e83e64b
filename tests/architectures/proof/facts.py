"""What a live model of transformers says about itself, in a form that can be kept."""

from collections.abc import Callable
from typing import Any, NamedTuple

# Names of counts that some configurations compute instead of holding them.
COUNTED = ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers")


class Module(NamedTuple):
    """A module under one of its names. `config`: the number of its own configuration, if it has one."""

    path: str
    kind: str
    parent_kind: str
    is_list: bool
    is_layer: bool  # a GradientCheckpointingLayer: what transformers calls a layer of a model
    is_table: bool  # nn.Embedding
    is_model: bool
    config: int | None


class Facts(NamedTuple):
    """`rows` are étude's leaves; everything else comes from torch and transformers."""

    rows: list[tuple]
    modules: list[Module]
    configs: list[dict[str, Any]]
    base: str
    inputs: list[str]
    outputs: list[str]


def facts(model: Any) -> Facts:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.modeling_layers import GradientCheckpointingLayer

    from etude.torch.leaves import leaves

    modules, configs, numbers = [], [], {}
    for path, module in model.named_modules(remove_duplicate=False):
        config = getattr(module, "config", None)
        number = None
        if isinstance(config, PreTrainedConfig):
            if id(config) not in numbers:
                numbers[id(config)] = len(configs)
                configs.append(_fields(config))
            number = numbers[id(config)]
        kind = type(module)
        modules.append(
            Module(
                path,
                kind.__name__,
                kind.__mro__[1].__name__,
                isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential)),
                isinstance(module, GradientCheckpointingLayer),
                isinstance(module, (nn.Embedding, nn.EmbeddingBag)),
                isinstance(module, PreTrainedModel),
                number,
            )
        )
    return Facts(
        [tuple(leaf) for leaf in leaves(model)],
        modules,
        configs,
        model.base_model_prefix,
        _paths(model, model.get_input_embeddings),
        _paths(model, model.get_output_embeddings),
    )


def _fields(config: Any) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in vars(config).items()
        if isinstance(value, (int, float, str, bool, list, tuple)) and not key.startswith("_")
    }
    counted = {key: getattr(config, key, None) for key in COUNTED}
    kept |= {key: value for key, value in counted.items() if type(value) is int}
    short = {key: v for key, v in kept.items() if not isinstance(v, (list, tuple)) or len(v) < 100}
    return short | {"class": type(config).__name__}


def _paths(model: Any, ask: Callable[[], Any]) -> list[str]:
    """The names of a module that a model gives on request."""
    try:
        found = ask()
    except Exception:
        return []
    return [
        path
        for path, module in model.named_modules(remove_duplicate=False)
        if found is not None and module is found
    ]
