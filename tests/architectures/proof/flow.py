"""Which parameters feed which, from the autograd graph of one pass.

Time alone does not tell: a branch that reads the output of block 8, such as a merger of Qwen3-VL, runs
before block 9 and feeds nothing in it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Pass(NamedTuple):
    """The parameters that a pass used, by first use; bit j of `feeds[i]` says that j's feeds i's."""

    order: list[str]
    feeds: list[int]


# What touches a parameter and does not use it.
QUIET = {
    "__get__", "size", "dim", "__hash__", "is_floating_point", "numel", "data_ptr", "stride", "type",
    "div_", "mul_", "copy_", "detach", "requires_grad_",
}  # fmt: skip
# Tokens and tables that a pass brings in are fed by nothing, wherever they join it or are added.
SOURCES = {
    "expand", "expand_as", "repeat", "tile", "embedding", "cat", "stack", "concat", "concatenate", "where",
    "add", "__add__", "__radd__", "__iadd__", "add_",
}  # fmt: skip
# What multiplies by a parameter or shifts by it: a use, even of data that no gradient flows back to.
WORKS = {
    "linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "einsum", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "layer_norm", "rms_norm", "group_norm", "batch_norm",
}  # fmt: skip
DATA = ""  # stands among the parameters for whatever else is given to a pass
MOST = 768 << 20  # bytes that the tensors of a pass may have, because its graph keeps them
JOINS = ("CatBackward", "StackBackward")
STAND_INS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda t: t.dtype == torch.bool or (1.0 if t.is_floating_point() else 1),
    "__bool__": lambda t: True,
    "__int__": lambda t: 1,
    "__float__": lambda t: 1.0,
    "__index__": lambda t: 1,
    "tolist": lambda t: torch.ones(t.shape, dtype=t.dtype, device="cpu").tolist(),
}


class Use(NamedTuple):
    """The node of the graph where a parameter is used first, and the parameters that this call takes."""

    node: Any
    together: list[str]
    works: bool = False


class Trace(TorchFunctionMode):
    """Notes every parameter at its first use, and answers for tensors that have no values."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.used: dict[str, Use] = {}
        self.leaves: dict[int, str] = {}
        self.nodes: list[Any] = []
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in STAND_INS and args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return STAND_INS[name](args[0])
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and not result.is_meta and not result._is_view():
            self.bytes += result.nbytes
            if self.bytes > MOST:
                raise MemoryError(f"a pass of more than {MOST >> 20} MiB")
        if name not in QUIET:
            node = next(_nodes([result]), None)
            if node is not None:
                self.nodes.append(node)
            together = [one for p in _parameters((*args, *kwargs.values())) if (one := self.names.get(id(p)))]
            for one in together:
                self.used.setdefault(one, Use(None if name in SOURCES else node, together, name in WORKS))
        return result

    def done(self) -> Pass:
        """What the pass has shown; the graph is let go."""
        graph = _Graph(self.nodes, self.names)
        order = list(self.used)
        place = {name: i for i, name in enumerate(order)}
        feeds = [graph.feeding(name, use, place) for name, use in self.used.items()]
        self.nodes.clear()
        self.used = {}
        return Pass(order, feeds)


class _Graph:
    """The nodes of a pass: for each, as bits, the parameters among its ancestors."""

    def __init__(self, ends: Iterable[Any], names: dict[int, str]) -> None:
        self.bits: dict[str, int] = {}
        self.masks: dict[int, int] = {}
        self.users: dict[int, list[Any]] = {}
        self.kept: list[Any] = []
        self.names = names
        for end in ends:
            self._visit(end)

    def _visit(self, end: Any) -> None:
        todo = [(end, False)]
        while todo:
            node, ready = todo.pop()
            if id(node) in self.masks:
                continue
            below = [one for one, _ in node.next_functions if one is not None]
            if ready:
                mask = self._own(node)
                for one in below:
                    mask |= self.masks[id(one)]
                    self.users.setdefault(id(one), []).append(node)
                self.masks[id(node)] = mask
            else:
                self.kept.append(node)
                todo.append((node, True))
                todo += [(one, False) for one in below if id(one) not in self.masks]

    def _own(self, node: Any) -> int:
        variable = getattr(node, "variable", None)
        if variable is None:
            return 0
        return 1 << self.bits.setdefault(self.names.get(id(variable), DATA), len(self.bits))

    def feeding(self, name: str, use: Use, place: dict[str, int]) -> int:
        """What feeds the first use of a parameter, whose copies and views are followed to other tensors."""
        node = use.node
        if node is None or name not in self.bits or id(node) not in self.masks:
            return 0
        own = 1 << self.bits[name]
        met = [self.masks[id(node)]]
        if met == [own] and not use.works:
            met = [self.masks[id(one)] for one in self._meetings(node, own)]
        mask = min(met, key=int.bit_count, default=own)
        for other in use.together:
            mask &= ~(1 << self.bits.get(other, len(self.bits)))
        return sum(
            1 << place[other] for other, bit in self.bits.items() if mask >> bit & 1 and other in place
        )

    def _meetings(self, node: Any, own: int) -> Iterator[Any]:
        todo, seen = [node], set()
        while todo:
            for user in self.users.get(id(todo.pop()), ()):
                if id(user) in seen or user.name().startswith(JOINS):
                    continue
                seen.add(id(user))
                if self.masks[id(user)] == own:
                    todo.append(user)
                else:
                    yield user


def _parameters(values: Iterable[Any]) -> Iterator[nn.Parameter]:
    for value in values:
        if isinstance(value, nn.Parameter):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _parameters(value)


def _nodes(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.grad_fn is not None:
                yield value.grad_fn
        elif isinstance(value, (tuple, list)):
            yield from _nodes(value)
