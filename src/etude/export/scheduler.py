"""The scheduler of torch that three targets share: torch's own loop, the Trainer and Lightning."""

from etude.export import lookup
from etude.export.tables import Tables
from etude.export.target import Script

SCHEDULE = '''
class Schedule(LRScheduler):
    """Sets what the next update uses; call step() after every optimizer.step()."""

    def get_lr(self):
        return [value(LR, self.last_epoch) for group in self.optimizer.param_groups]
'''

WRITE = """
    def step(self, epoch=None):
        super().step(epoch)
        self.write()

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.write()

    def write(self):
        for group in self.optimizer.param_groups:
"""

WEIGHT_DECAY = """
            group["weight_decay"] = value(WEIGHT_DECAY, self.last_epoch)
"""

WEIGHT_DECAY_WHERE_THERE_IS_ONE = """
            if group.setdefault("decays", group["weight_decay"] > 0):
                group["weight_decay"] = value(WEIGHT_DECAY, self.last_epoch)
"""

MOMENTUM = """
            momentum = value(MOMENTUM, self.last_epoch)
            if "momentum" in group:
                group["momentum"] = momentum
            else:
                group["betas"] = (momentum, *group["betas"][1:])
"""

FREEZE = """
            training = trains(LR, self.last_epoch)
            for parameter in group["params"]:
                parameter.requires_grad_(training)
                if not training:
                    parameter.grad = None
"""

PARAM_GROUPS = '''
def param_groups(model):
    """The groups for an optimizer; every parameter that trains has to be in one."""
    found = dict(model.named_parameters())
    planned = {name for names in GROUPS.values() for name in names}
    if missed := [name for name, p in found.items() if p.requires_grad and name not in planned]:
        raise ValueError(f"in no group: {missed}")
'''

RETURN = """    return [{"name": name, "params": [found[p] for p in names]} for name, names in GROUPS.items()]
"""
RETURN_WITH_DECAY = """    return [
        {"name": name, "params": [found[p] for p in names], "weight_decay": value(WEIGHT_DECAY[name], 0)}
        for name, names in GROUPS.items()
    ]
"""


def script(tables: Tables, body: str, imports: tuple[str, ...] = (), decays_some: bool = False) -> Script:
    """The class `Schedule`, `param_groups(model)` before it if there are groups, and `body` below.

    With `decays_some` the optimizer comes with groups of its own, and those without weight decay stay so.
    """
    given = "weight_decay" in tables.values and tables.constant("weight_decay")
    given = given and (tables.grouped or decays_some)  # the optimizer is made with it
    written = []
    if "weight_decay" in tables.values and not given:
        written.append(WEIGHT_DECAY_WHERE_THERE_IS_ONE if decays_some else WEIGHT_DECAY)
    written += [MOMENTUM] if "momentum" in tables.values else []
    written += [FREEZE] if tables.freezes else []
    schedule = SCHEDULE if tables.grouped else SCHEDULE.replace("for group in", "for _ in")
    text = schedule + (WRITE + "".join(part.lstrip("\n") for part in written) if written else "")
    if tables.grouped:
        for hyper in ("LR", "WEIGHT_DECAY", "MOMENTUM"):
            text = text.replace(f"({hyper}, self", f'({hyper}[group["name"]], self')
        text = PARAM_GROUPS + (RETURN_WITH_DECAY if given else RETURN) + "\n\n" + text.lstrip("\n")
    lines = ("from torch.optim.lr_scheduler import LRScheduler", *imports)
    whole = f"{text.strip()}\n\n\n{body.strip()}"
    return Script(None, lines, lookup.numbers(tables), whole)


def optimizer(tables: Tables, model: str = "model") -> str:
    """How an optimizer with the right groups is made, as one line."""
    return f"torch.optim.AdamW({f'param_groups({model})' if tables.grouped else f'{model}.parameters()'})"
