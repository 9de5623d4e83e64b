"""Every architecture of timm, built on the meta device and run there, with timm's own layer ids."""

from typing import Any, NamedTuple

from proof import models
from proof.flow import Pass


class Kept(NamedTuple):
    """An architecture: étude's leaves, timm's layer id of every parameter ({} without), one pass, and the
    modules whose weights timm does not load for another number of classes.
    """

    rows: list[tuple[Any, ...]]
    ids: dict[str, int]
    run: Pass
    head: list[str]

    @classmethod
    def read(cls, plain: tuple[Any, ...]) -> "Kept":
        """From what was kept."""
        rows, ids, run, head = plain
        return cls(rows, ids, Pass(*run), head)


def names() -> dict[str, list[str]]:
    """The architectures of each module."""
    import timm

    found: dict[str, list[str]] = {}
    for name in timm.list_models():
        found.setdefault(timm.models._registry._model_to_module[name], []).append(name)
    return {module: found[module] for module in sorted(found)}


def build(name: str, run: bool = True) -> Kept:
    """One architecture."""
    import timm
    import torch
    from proof import execution
    from timm.models._manipulate import group_parameters

    from etude.torch.leaves import leaves

    with models.quiet(), torch.device("meta"):
        model = timm.create_model(name)
        try:
            ids = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        except (AttributeError, AssertionError):
            ids = {}
        done = Pass([], [])
        if run:
            size = model.default_cfg.get("input_size") or (3, 224, 224)
            known = {id(parameter): path for path, parameter in model.named_parameters()}
            done, error = execution.run(model, known, torch.zeros(1, *size))
            if error is not None:
                raise RuntimeError(f"{name}: {error}")
        classifier = model.default_cfg.get("classifier") or ()
        head = [classifier] if isinstance(classifier, str) else list(classifier)
        return Kept([tuple(leaf) for leaf in leaves(model)], ids, done, head)
