"""Run folders: `runs/20261122-150405-tweets/` and what lies in it."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from etude.errors import CheckpointError, RecipeError

ROOT = Path("runs")
STAMP = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, by the names of what lies in it; none of it need exist yet.

    >>> RunFolder(Path("runs/x")).log.as_posix()
    'runs/x/log.jsonl'
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name, by which the log and the report call the run."""
        return self.path.resolve().name

    @property
    def recipe(self) -> Path:
        """The resolved recipe, as YAML."""
        return self.path / "recipe.yaml"

    @property
    def plan(self) -> Path:
        """The plan's table, as text."""
        return self.path / "plan.txt"

    @property
    def log(self) -> Path:
        """One JSON object a line: see `report.log`."""
        return self.path / "log.jsonl"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    @property
    def best(self) -> Path:
        """The result: the best checkpoint, the test against the baselines."""
        return self.path / "best.json"

    @property
    def checkpoints(self) -> Path:
        """One folder for each checkpoint: see `checkpoint`."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The best checkpoint's model as a plain Hugging Face folder."""
        return self.path / "model"


def create(name: str, output: str | Path | None = None, root: Path = ROOT) -> RunFolder:
    """Make the folder of a new run: `root/<time>-<name>`, with a number if that is taken, or `output` itself.

    Raises `RecipeError` for an `output` that is a file or has something in it, since nothing is ever written
    over, and for a place that cannot be written.
    """
    if output is not None:
        path = Path(output).expanduser()
        _occupy(path)
        return RunFolder(path)
    stem = f"{time.strftime(STAMP)}-{_plain(name)}"
    number = 1
    while True:
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except OSError as error:
            if isinstance(error, FileExistsError) and root.is_dir():
                number += 1
                continue
            raise RecipeError(
                f"the folder {root}/ for runs cannot be written: {error.strerror}; write output=FOLDER"
            ) from None
        return RunFolder(path)


def find(path: str | Path) -> RunFolder:
    """The run in a folder; `CheckpointError` with the runs nearby if there is none."""
    path = Path(path).expanduser()
    if is_run(path):
        return RunFolder(path)
    if not path.exists():
        what = f"there is no folder {path}"
    elif path.is_dir():
        what = f"{path} is no run: it lacks {' and '.join(f.name for f in _marks(path) if not f.is_file())}"
    else:
        what = f"{path} is a file, not the folder of a run"
    nearby = dict.fromkeys(run for place in (path, path.parent, ROOT) for run in runs(place))
    shown = ", ".join(str(run.path) for run in list(nearby)[:5])
    raise CheckpointError(f"{what}; runs nearby: {shown}" if nearby else f"{what}, and no run is nearby")


def newest(root: Path = ROOT) -> RunFolder:
    """The run that was started last; `CheckpointError` if there is none."""
    found = runs(root)
    if not found:
        raise CheckpointError(
            f"there is no run in {root}; start one with: etude finetune, or name its folder"
        )
    return found[0]


def runs(root: Path = ROOT) -> list[RunFolder]:
    """The runs that lie in a folder, the one started last first."""
    if not root.is_dir():
        return []
    return [RunFolder(path) for path in sorted(filter(is_run, root.iterdir()), key=_started, reverse=True)]


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run: the recipe and the log are there from its first moment."""
    return all(file.is_file() for file in _marks(path))


def _marks(path: Path) -> tuple[Path, Path]:
    return RunFolder(path).recipe, RunFolder(path).log


def _started(path: Path) -> tuple[str, int]:
    """The time in the name; for a folder that the user named, that of its recipe, which is written once."""
    written = (path / "recipe.yaml").stat().st_mtime_ns
    stamp = re.match(r"\d{8}-\d{6}", path.name)
    return (stamp[0] if stamp else time.strftime(STAMP, time.localtime(written / 1e9)), written)


def refuse_occupied(output: str | Path | None) -> None:
    """Raise `RecipeError` for an `output` that is a file or a folder with something in it."""
    if output is None:
        return
    path = Path(output).expanduser()
    if path.is_file():
        raise RecipeError(f"output: {path} is a file; write the name of a folder that does not exist yet")
    if path.is_dir() and any(path.iterdir()):
        hint = f", or go on with it: etude finetune --resume {path}" if is_run(path) else ""
        raise RecipeError(
            f"output: {path} is occupied, and nothing is written over; choose another folder{hint}"
        )


def _occupy(path: Path) -> None:
    refuse_occupied(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(f"output: {path} cannot be made: {error.strerror}") from None


def _plain(name: str) -> str:
    """A name that is a folder's name everywhere.

    >>> _plain("my data/tweets (2).csv")
    'my-data-tweets-2-.csv'
    """
    return re.sub(r"[^\w.]+", "-", name)[:60].strip("-.") or "run"
