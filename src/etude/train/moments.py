"""An optimizer's state as tensors named after the parameters, and back.

torch matches state by position, so a regrouped model gets the moments of another tensor without an error.
Here `exp_avg/<parameter name>` goes where the parameter of that name is, or nowhere.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from etude.errors import CheckpointError


def named_parameters(optimizer: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """{name: (parameter, its group)} of an optimizer whose groups have `param_names`.

    Raises `CheckpointError` for a group without names and for a name that stands twice.
    """
    named: dict[str, tuple[Any, dict[str, Any]]] = {}
    for index, group in enumerate(optimizer.param_groups):
        names = group.get("param_names")
        if names is None or len(names) != len(group["params"]):
            raise CheckpointError(
                f"group {index} of the optimizer does not name its parameters; "
                f"build it from plan.torch_groups(model), or pass model.named_parameters()"
            )
        for name, parameter in zip(names, group["params"], strict=True):
            if name in named:
                raise CheckpointError(f"the optimizer has two parameters with the name {name}")
            named[name] = (parameter, group)
    return named


def write_moments(path: Path, optimizer: Any) -> None:
    """Write the whole state of a torch optimizer; a Python number becomes a tensor without dimensions."""
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    named = named_parameters(optimizer)
    for name, (parameter, _) in named.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, (int, float)):
                value = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
            if not isinstance(value, torch.Tensor):
                if value is None:
                    continue
                raise CheckpointError(
                    f"{key} of {name} is a {type(value).__name__}; only tensors and numbers are saved"
                )
            tensors[f"{key}/{name}"] = value.detach().contiguous()
    shapes = {name: list(parameter.shape) for name, (parameter, _) in named.items()}
    save_file(tensors, path, metadata={"etude": "1", "parameters": json.dumps(shapes)})


def read_moments(path: Path, optimizer: Any) -> None:
    """Put the state in a file into an optimizer, by name; its groups and their settings stay as they are.

    Raises `CheckpointError` with the names that one side lacks, or whose shapes differ; then nothing is
    changed. A tensor goes to the device of its parameter; one without dimensions (a count of updates) does so
    only where a fused or capturable optimizer wants it there.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise CheckpointError(f"{path.parent} holds no state of an optimizer")
    named = named_parameters(optimizer)
    with safe_open(path, framework="pt") as file:
        shapes = json.loads((file.metadata() or {}).get("parameters", "{}"))
        _refuse_other(shapes, named)
        state: dict[str, dict[str, Any]] = {}
        for full in file.keys():  # noqa: SIM118  # safe_open is no mapping
            key, _, name = full.partition("/")
            parameter, group = named[name]
            tensor = file.get_tensor(full)
            moves = tensor.dim() or group.get("fused") or group.get("capturable")
            # A copy: what is read is a view of the file, which would stay on the disk for as long as the run.
            state.setdefault(name, {})[key] = tensor.to(parameter.device if moves else "cpu", copy=True)
    optimizer.state.clear()
    for name, values in state.items():
        optimizer.state[named[name][0]] = values


def _refuse_other(shapes: Mapping[str, list[int]], named: Mapping[str, tuple[Any, Any]]) -> None:
    differ = [
        f"{name} ({shapes[name]} in the checkpoint, {list(named[name][0].shape)} in the model)"
        for name in shapes.keys() & named.keys()
        if shapes[name] != list(named[name][0].shape)
    ]
    for what, names in (
        ("only in the checkpoint", shapes.keys() - named.keys()),
        ("only in the optimizer", named.keys() - shapes.keys()),
        ("of another shape", differ),
    ):
        if names:
            raise CheckpointError(
                f"the optimizer's state does not fit: {len(names)} of {len(named)} parameters are {what}: "
                f"{_some(names)}"
            )


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
