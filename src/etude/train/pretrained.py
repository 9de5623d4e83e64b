"""A pretrained model from a folder, the hub or a package, with a head for the task at hand."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from etude.errors import MissingExtra, ModelError
from etude.train.packages import model_folder


class Loaded(NamedTuple):
    """A model with its tokenizer; `fresh` names the parameters that are new: as a rule, the head."""

    model: Any
    tokenizer: Any
    fresh: tuple[str, ...]
    notes: tuple[str, ...]


def load(source: str, head: Mapping[str, Any]) -> Loaded:
    """The model with the entries of `head` in its config, in float32, and its tokenizer.

    `source` is a folder, an id or `package:NAME`. Seed before calling: a new head is drawn at random. Raises
    ModelError with what to write, or MissingExtra.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("torch and transformers", "train") from error
    folder = _checked(source)
    with _quiet(), _explained(f"model {source!r}"):
        config = AutoConfig.from_pretrained(folder)
        had = dict(config.id2label or {})
        for key, value in head.items():
            setattr(config, key, value)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # no pickle is ever read
            ignore_mismatched_sizes=True,  # a head for other labels is replaced
            output_loading_info=True,
        )
    with _quiet(), _explained(f"the tokenizer of model {source!r}"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    _limit(tokenizer, config)
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    body = {f"{model.base_model_prefix}.{name}" for name, _ in model.base_model.named_parameters()}
    if 2 * len(fresh & body) > len(body):
        raise ModelError(
            f"model {source!r}: its weights are not those of its config.json; "
            f"{len(fresh & body)} of {len(body)} parameters are missing; "
            "write a folder that save_pretrained wrote whole"
        )
    notes = []
    if not fresh - body and had != config.id2label:
        notes.append(f"the head comes from the checkpoint, where it stood for {', '.join(had.values())}")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"model {source!r}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"no padding token: texts are padded with {tokenizer.eos_token!r}")
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return Loaded(model, tokenizer, tuple(sorted(fresh)), tuple(notes))


def trained(folder: Path) -> tuple[Any, Any]:
    """A model in evaluation mode as it lies in a folder, with the head it has, and its tokenizer.

    Raises ModelError.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with _quiet(), _explained(f"model {str(folder)!r}"):
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    _limit(tokenizer, model.config)
    return model, tokenizer


def _limit(tokenizer: Any, config: Any) -> None:
    """A tokenizer need not know how many tokens its model can read."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)


def _checked(source: str) -> str:
    """The folder or id to load; what looks like a folder must be one."""
    folder = Path(model_folder(source)).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model {source!r}: the folder has no config.json, so it is no Hugging Face model"
            )
        return str(folder)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ModelError(f"model {source!r}: there is no such folder")
    return source


@contextmanager
def _explained(what: str) -> Generator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"{what} cannot be loaded: {reason.strip().rstrip('.:')}; write a Hugging Face id such "
            "as distilbert-base-uncased, package:NAME, or a folder with config.json, model.safetensors and "
            "a tokenizer"
        ) from error


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' progress bar and load report: `Loaded.fresh` says what of it matters."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
