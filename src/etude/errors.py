"""Every error that étude raises on purpose: what was wrong, what was got, and what to write instead.

The command line prints the message of an `EtudeError` alone, without a traceback, and exits with code 2.
"""


class EtudeError(Exception):
    """Base of all errors that a user can act on."""


class ScheduleError(EtudeError, ValueError):
    """A schedule, a length or an edit that cannot be what was meant."""


class PlanError(EtudeError, ValueError):
    """A plan that does not fit its model: a parameter in no group or in two, an unknown name."""


class PlanMismatch(EtudeError):  # noqa: N818  # it states a fact, as the next two do
    """A saved state belongs to another plan. `rows` are (field, in the checkpoint, in the recipe)."""

    def __init__(self, message: str, rows: tuple[tuple[str, str, str], ...] = ()):
        super().__init__(message)
        self.rows = rows


class ForeignChange(EtudeError):  # noqa: N818
    """Another hand wrote a rate that étude owns. `changes` are (group, what was written, what is there)."""

    def __init__(self, message: str, hyper: str, changes: tuple[tuple[str, float, float], ...] = ()):
        super().__init__(message)
        self.hyper, self.changes = hyper, changes


class RecipeError(EtudeError, ValueError):
    """A recipe with an unknown key, a value of the wrong kind, or two keys that contradict each other."""


class DataError(EtudeError, ValueError):
    """Data that cannot be read or cannot be learned from."""


class ModelError(EtudeError, ValueError):
    """A model that is not there or cannot do the task."""


class CheckpointError(EtudeError):
    """A checkpoint or run folder that is missing, broken or in the way."""


class MissingExtra(EtudeError, ImportError):  # noqa: N818
    """An optional part of étude is not installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"not installed: {package}; write: pip install 'etude[{extra}]'")


class EtudeWarning(UserWarning):
    """Something that is legal and probably not meant."""


def near(name: str, known) -> str:
    """The known names closest to a misspelt one, as the end of an error message.

    >>> near("cosin", ["cosine", "linear"])
    "; did you mean 'cosine'?"
    >>> near("zzz", ["cosine", "linear"])
    '; known: cosine, linear'
    """
    import difflib

    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(map(repr, close)) + "?"
    return "; known: " + ", ".join(known) if known else ""
