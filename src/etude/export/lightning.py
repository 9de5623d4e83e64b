"""Lightning: what `configure_optimizers` returns."""

from etude.export import scheduler
from etude.export.layout import comment
from etude.export.tables import Tables
from etude.export.target import Script, target

CONFIGURED = '''
def configured(optimizer):
    """What a LightningModule's configure_optimizers returns."""
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": Schedule(optimizer), "interval": "step"}}


'''


@target("lightning")
def lightning(tables: Tables) -> Script:
    """A function that makes the scheduler for an optimizer, stepped with every update."""
    made = scheduler.optimizer(tables, "self")
    usage = ["class Model(LightningModule):", "    def configure_optimizers(self):"]
    usage += [f"        return configured({made})"]
    return scheduler.script(tables, CONFIGURED + comment(usage))
