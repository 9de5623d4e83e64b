"""MLX: a schedule, or AdamW with schedules, one for each group."""

from etude.export import lookup
from etude.export.layout import comment
from etude.export.tables import Tables
from etude.export.target import Script, target

CLASS = '''
class Optimizer(optim.AdamW):
    """AdamW with its values of every update."""

    def __init__(self):
        super().__init__(partial(value, LR))
'''

CLASS_OF_GROUP = '''
class Optimizer(optim.AdamW):
    """AdamW with a group's own values of every update."""

    def __init__(self, group):
        super().__init__(partial(value, LR[group]))
        self.group = group
'''

APPLY = """
    def apply_single(self, gradient, parameter, state):
        k = self.step - 1
"""

WEIGHT_DECAY = """
        self.weight_decay = value(WEIGHT_DECAY, k).astype(gradient.dtype)
"""

MOMENTUM = """
        self.betas = [value(MOMENTUM, k).astype(gradient.dtype), self.betas[1]]
"""

APPLIED = """
        return super().apply_single(gradient, parameter, state)
"""

APPLIED_UNLESS_FROZEN = """
        before = dict(state)
        parameter = super().apply_single(gradient, parameter, state)
        going = trains(LR, k)  # what is frozen keeps its moments
        state.update({name: mx.where(going, state[name], old) for name, old in before.items()})
        return parameter
"""

OPTIMIZERS = """
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}
FILTERS = [lambda name, _, group=group: GROUP_OF[name] == group for group in GROUPS]

optimizer = optim.MultiOptimizer([Optimizer(group) for group in GROUPS], FILTERS[:-1])
"""


@target("mlx")
def mlx(tables: Tables) -> Script:
    """A callable for the optimizers of MLX; `MultiOptimizer` where there are groups."""
    imports = ["from functools import partial", "import mlx.core as mx"]
    read = lookup.arrays(tables, "mx", "k = mx.array(k).astype(mx.int32)\nresult = mx.array(peak)")
    if not tables.grouped and list(tables.values) == ["lr"] and not tables.freezes:
        usage = comment(["optimizer = mlx.optimizers.AdamW(lr)"])
        return Script("mx", imports, read, f"lr = partial(value, LR)\n\n{usage}")
    written = [WEIGHT_DECAY] if "weight_decay" in tables.values else []
    written += [MOMENTUM] if "momentum" in tables.values else []
    last = APPLIED_UNLESS_FROZEN if tables.freezes else APPLIED
    parts = [APPLY, *written, last] if written or tables.freezes else []
    text = CLASS_OF_GROUP if tables.grouped else CLASS
    text += "".join([part.lstrip("\n") if part is not APPLY else part for part in parts])
    for hyper in tables.values if tables.grouped else ():
        text = text.replace(f"({hyper.upper()}, k)", f"({hyper.upper()}[self.group], k)")
    made = OPTIMIZERS if tables.grouped else "\noptimizer = Optimizer()\n"
    imports.append("import mlx.optimizers as optim")
    return Script("mx", imports, read, f"{text.strip()}\n\n\n{made.strip()}")
