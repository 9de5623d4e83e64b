"""A torch model as a list of leaves."""

import re

from torch import nn

from etude.errors import PlanError
from etude.model.leaf import Leaf

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
HOLDERS = (nn.ParameterList, nn.ParameterDict, nn.ModuleDict, nn.utils.parametrize.ParametrizationList)


def leaves(model: nn.Module) -> list[Leaf]:
    """Every parameter under every one of its names, in order of registration.

    A tensor that several modules share (an output layer that is the word embedding) comes first under the
    name that `model.named_parameters()` gives it, then as `tied_to` that name. Raises `PlanError` for a lazy
    module that has not seen a batch.

    >>> from torch import nn
    >>> for leaf in leaves(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))):
    ...     print(leaf.name, leaf.shape, leaf.module)
    0.weight (2, 4) Linear
    0.bias (2,) Linear
    1.weight (2,) Norm
    1.bias (2,) Norm
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    owners: dict[int, str] = {}
    found = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.UninitializedParameter):
            raise PlanError(f"{name} has no shape yet: run one batch through the model, then plan")
        owner = owners.setdefault(id(parameter), name)
        found.append(
            Leaf(
                name,
                tuple(parameter.shape),
                parameter.requires_grad,
                _kind(_module(name, modules)),
                None if owner == name else owner,
            )
        )
    return found


def _module(name: str, modules: dict[str, nn.Module]) -> nn.Module:
    """The module that uses a parameter: lists, dictionaries and parametrizations only hold it for another."""
    path = name.rpartition(".")[0]
    while path and isinstance(modules[path], HOLDERS):
        path = path.rpartition(".")[0]
    return modules[path]


def _kind(module: nn.Module) -> str:
    """Embeddings and norms also by the end of their type's name: LlamaRMSNorm, IBert's QuantEmbedding."""
    name = type(module).__name__
    if isinstance(module, nn.Linear):
        return "Linear"
    if isinstance(module, nn.modules.conv._ConvNd):
        return "Conv"
    leaf = not any(module.children())
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or (leaf and name.endswith("Embedding")):
        return "Embedding"
    if isinstance(module, NORMS) or (leaf and re.search(r"[Nn]orm(Gated|\dd)?$", name)):
        return "Norm"
    return name
