"""optax: a schedule, or AdamW with schedules, one for each group."""

from etude.export import lookup
from etude.export.layout import Brackets, comment, laid
from etude.export.tables import Tables
from etude.export.target import Script, target

# As `optax.adamw` calls them.
ARGUMENTS = {"lr": "learning_rate", "weight_decay": "weight_decay", "momentum": "b1"}

ADAMW = '''
def adamw():
    """AdamW with schedules; the values that it used last are in its state."""
    MADE


optimizer = adamw()
'''

ADAMW_OF_GROUP = '''
def adamw(group):
    """AdamW with a group's own schedules; the values that it used last are in its state."""
    MADE


def labels(params):
    """The group of each parameter, in the shape of the parameters."""
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [keystr(path, simple=True, separator="/").removesuffix("/value") for path, _ in paths]
    found = spelt(names)
    if missed := [name for name in names if found[name] not in GROUP_OF]:
        raise ValueError(f"in no group: {missed}")
    return jax.tree_util.tree_unflatten(tree, [GROUP_OF[found[name]] for name in names])


optimizer = optax.partition({group: adamw(group) for group in GROUPS}, labels)
'''

STILL = '''
def still_while_frozen(one, paths):
    """The optimizer, whose moments keep still while the group is frozen."""

    def update(updates, state, params=None):
        new, moved = one.update(updates, state, params)
        going = trains(paths, state.count)
        moments = (moved.inner_state, state.inner_state)
        return new, moved._replace(inner_state=jax.tree.map(partial(jnp.where, going), *moments))

    return optax.GradientTransformation(one.init, update)
'''


@target("optax")
def optax(tables: Tables) -> Script:
    """A callable for `optax.adamw`; `partition` where there are groups."""
    imports = ["from functools import partial", "import jax.numpy as jnp"]
    read = lookup.arrays(tables, "jnp", "result = jnp.asarray(peak, jnp.float32)")
    if not tables.grouped and list(tables.values) == ["lr"] and not tables.freezes:
        usage = comment(["optimizer = optax.adamw(lr)"])
        return Script("jnp", imports, read, f"lr = partial(value, LR)\n\n{usage}")
    key = "[group]" if tables.grouped else ""
    given = [f"{ARGUMENTS[hyper]}=partial(value, {hyper.upper()}{key})" for hyper in tables.values]
    called = "optax.inject_hyperparams(optax.adamw, hyperparam_dtype=jnp.float32)("
    made = laid(Brackets(("made = " if tables.freezes else "return ") + called, given, ")"), 4)
    made += f"\n    return still_while_frozen(made, LR{key})" if tables.freezes else ""
    text = (ADAMW_OF_GROUP if tables.grouped else ADAMW).replace("    MADE", made)
    if tables.freezes:
        text = f"{STILL}\n\n{text.lstrip()}"
    imports += ["import optax", *(["import jax"] if tables.freezes or tables.grouped else [])]
    if tables.grouped:
        imports += ["import re", "from jax.tree_util import keystr"]
        text = f"{lookup.SPELT.lstrip()}\n\n{text.lstrip()}"
    return Script("jnp", imports, read, text.strip())
