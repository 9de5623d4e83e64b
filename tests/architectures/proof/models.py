"""Every public model class of transformers, built on the meta device."""

import contextlib
import functools
import importlib
import io
import os
import sys
import unittest.mock
import warnings
from collections.abc import Iterator
from typing import Any

from proof.configurations import CHANGES

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def model_types() -> list[str]:
    """Every type that a configuration can have."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(CONFIG_MAPPING_NAMES)


@functools.cache
def mapped() -> dict[str, tuple[str, ...]]:
    """The classes that the auto classes give for a model type."""
    from transformers.models.auto import modeling_auto

    found: dict[str, dict[str, None]] = {}
    for name in dir(modeling_auto):
        if name.endswith("_MAPPING_NAMES") and not name.startswith("CONFIG"):
            for model_type, entry in getattr(modeling_auto, name).items():
                for one in entry if isinstance(entry, (tuple, list)) else [entry]:
                    found.setdefault(model_type, {})[one] = None
    return {model_type: tuple(names) for model_type, names in found.items()}


def classes(model_type: str) -> list[str]:
    """The model classes of a type: the mapped ones, then the others that take its configuration."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES, model_type_to_module_name

    with quiet():
        names = [name for name in mapped().get(model_type, ()) if _is_model(name)]
        config = CONFIG_MAPPING_NAMES[model_type]
        if next(other for other, kind in CONFIG_MAPPING_NAMES.items() if kind == config) != model_type:
            return names
        elsewhere = {name for found in mapped().values() for name in found}
        folder = f"models.{model_type_to_module_name(model_type)}.modeling_"
        for name, module in transformers._class_to_module.items():
            other = module.startswith(folder) and name not in elsewhere and _is_model(name)
            if other and getattr(transformers, name).config_class.__name__ == config:
                names.append(name)
        return names


def _is_model(name: str) -> bool:
    import transformers

    kind = getattr(transformers, name, None)
    return (
        isinstance(kind, type)
        and issubclass(kind, transformers.PreTrainedModel)
        and "PreTrainedModel" not in name.removesuffix("ForConditionalGeneration")
        and not name.startswith("Pretrained")
        and kind.config_class is not None
    )


def build(model_type: str, name: str, device: str = "meta") -> Any:
    """A model of a class; on the meta device it takes no memory for its weights."""
    import torch
    import transformers

    kind = getattr(transformers, name)
    with quiet(), unneeded(kind), torch.device(device):
        return kind(configuration(model_type, name))


def configuration(model_type: str, name: str) -> Any:
    """The default configuration of a model type, or the nearest to it that builds a model."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = getattr(transformers, name)
    config_type = CONFIG_MAPPING[model_type]
    if not issubclass(config_type, kind.config_class):
        config_type = kind.config_class
    change = CHANGES.get(f"{model_type}:{name}", CHANGES.get(model_type, {}))
    config = config_type(**{key: value for key, value in change.items() if key[0] != "."})
    for path, value in change.items():
        if path[0] == ".":
            *way, last = path[1:].split(".")
            setattr(functools.reduce(getattr, way, config), last, value)
    return config


@contextlib.contextmanager
def unneeded(kind: type) -> Iterator[None]:
    """Without the check for natten, whose kernels DiNAT needs to run and not to be built."""
    module = importlib.import_module(kind.__module__)
    if kind.__module__.endswith("modeling_dinat"):
        with unittest.mock.patch.object(module, "requires_backends"):
            yield
    else:
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the messages of transformers about what is not installed and not set."""
    import transformers

    transformers.logging.set_verbosity_error()
    out, err = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with warnings.catch_warnings(), out, err:
        warnings.simplefilter("ignore")
        yield


def with_timm(folder: str) -> None:
    """Make timm importable from a folder of its own, beside a torchvision without its operators.

    Declared first, two of them are enough for `import torchvision` on a machine without a GPU.
    """
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    sys.path.insert(0, folder)


_kept: list[Any] = []
