"""Hugging Face: a Trainer whose own hooks make optimizer and scheduler."""

from etude.export import scheduler
from etude.export.layout import comment
from etude.export.tables import Tables
from etude.export.target import Script, target

TRAINER = '''
class ScheduledTrainer(Trainer):
    """A Trainer with the schedule above; write SFTTrainer or another one in the place of Trainer."""

'''

DECAY = """
    def create_optimizer(self, model=None):
        self.args.weight_decay = PEAK  # of what Trainer decays: neither biases nor norms
        return super().create_optimizer(model)

"""

GROUPS = """
    def create_optimizer(self, model=None):
        optimizer = super().create_optimizer(model)
        if "name" not in optimizer.param_groups[0]:
            common = {key: x for key, x in optimizer.param_groups[0].items() if key != "params"}
            groups = param_groups(self.model if model is None else model)
            optimizer.param_groups[:] = [common | group for group in groups]
        return optimizer

"""

SCHEDULER = """
    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            if num_training_steps != UPDATES:
                raise ValueError(f"written for UPDATES updates: export it with --steps {num_training_steps}")
            self.lr_scheduler = Schedule(self.optimizer if optimizer is None else optimizer)
            self._created_lr_scheduler = True  # as Trainer does, so that another train() makes a new one
        return self.lr_scheduler
"""
CHECK = SCHEDULER[SCHEDULER.index("            if num") : SCHEDULER.index("            self.lr")]


@target("hf")
def hf(tables: Tables) -> Script:
    """A subclass of `Trainer`; the optimizer is the one that `optim=` names."""
    trainer_groups = not tables.grouped
    parts = [TRAINER]
    if trainer_groups and "weight_decay" in tables.values:
        peak = tables.rates.plan.hypers["weight_decay"].peak
        parts.append(DECAY.replace("PEAK", repr(peak)))
    elif tables.grouped:
        parts.append(GROUPS)
    updates = tables.updates
    parts.append(
        SCHEDULER.replace(CHECK, "") if updates is None else SCHEDULER.replace("UPDATES", str(updates))
    )
    usage = comment(["trainer = ScheduledTrainer(model, args, train_dataset=data)"])
    body = "".join(part.lstrip("\n") for part in parts) + "\n\n" + usage
    lines = ("from transformers import Trainer",)
    return scheduler.script(tables, body, lines, decays_some=trainer_groups)
