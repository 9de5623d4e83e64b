"""Keras 3: a learning-rate schedule, and where groups differ an optimizer that knows each variable's own."""

from etude.export import lookup
from etude.export.layout import comment
from etude.export.tables import Tables
from etude.export.target import Script, target

SCHEDULE = '''
@keras.saving.register_keras_serializable("etude")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of every update."""

    def __call__(self, step):
        return value(LR, step)

    def get_config(self):
        return {}
'''

OPTIMIZER = '''
@keras.saving.register_keras_serializable("etude")
class Optimizer(keras.optimizers.Adam):
    """Adam with every group's own values; the learning rate that it is given is not used."""

    def update_step(self, gradient, variable, learning_rate):
        k = self.iterations
'''

BUILD = """
    def build(self, variables):
        paths = spelt([v.path for v in variables])
        if missed := [path for path, name in paths.items() if name not in GROUP_OF]:
            raise ValueError(f"in no group: {missed}")
        self.groups = {path: GROUP_OF[name] for path, name in paths.items()}
        super().build(variables)

"""

RATE = """
        rate = ops.cast(value(LR, k), variable.dtype)
"""

WEIGHT_DECAY = """
        decay = ops.cast(value(WEIGHT_DECAY, k), variable.dtype)
        variable.assign(variable - variable * decay * rate)
"""

UPDATE = """
        super().update_step(gradient, variable, rate)
"""

UPDATE_WITH_MOMENTUM = """
        beta, self.beta_1 = self.beta_1, value(MOMENTUM, k)
        super().update_step(gradient, variable, rate)
        self.beta_1 = beta
"""


@target("keras")
def keras(tables: Tables) -> Script:
    """A `LearningRateSchedule`; for groups, weight decay and momentum a subclass of Adam."""
    read = lookup.arrays(
        tables, "ops", 'k = ops.cast(k, "float32")\nresult = ops.cast(peak, "float32")', False
    )
    imports = ["import keras", "from keras import ops"]
    if not tables.grouped and list(tables.values) == ["lr"]:
        usage = comment(["optimizer = keras.optimizers.AdamW(Schedule())"])
        return Script("ops", imports, read, f"{SCHEDULE.strip()}\n\n\n{usage}")
    parts = [OPTIMIZER, RATE]
    parts += [WEIGHT_DECAY] if "weight_decay" in tables.values else []
    parts += [UPDATE_WITH_MOMENTUM] if "momentum" in tables.values else [UPDATE]
    text = "".join(part.lstrip("\n") for part in parts)
    if tables.grouped:
        imports.append("import re")
        text = text.replace("    def update_step", BUILD.lstrip("\n") + "    def update_step")
        text = text.replace("k = self.iterations", "k, group = self.iterations, self.groups[variable.path]")
        for hyper in ("LR", "WEIGHT_DECAY", "MOMENTUM"):
            text = text.replace(f"({hyper}, k)", f"({hyper}[group], k)")
        text = f"{lookup.SPELT.lstrip()}\n\n{text}"
    usage = comment(["optimizer = Optimizer()"])
    return Script("ops", imports, read, f"{text.strip()}\n\n\n{usage}")
