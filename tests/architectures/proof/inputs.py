"""Inputs for the models of transformers, from the names of the arguments of `forward` and the configuration.

Their values are zeros: an order of use is asked for, not a result.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

LENGTH = 8
GRID = (1, 4, 4)  # frames, rows and columns of patches
PARTS = (
    "vision_config", "text_config", "audio_config", "backbone_config", "encoder", "encoder_config", "decoder",
    "decoder_config", "audio_encoder", "talker_config", "thinker_config",
)  # fmt: skip
MAIN = (
    "input_ids", "pixel_values", "input_values", "input_features", "inputs_embeds", "audio_values",
    "past_values", "flattened_patches", "pixel_values_videos", "hidden_states", "spectrogram",
)  # fmt: skip
# What goes with other arguments wherever `forward` takes it.
ALONG = {"input_ids": ("attention_mask", "bbox"), "pixel_values": ("pixel_mask",)}
SECOND = ("decoder_input_ids", "decoder_input_values", "visual_feats", "visual_pos")


def attempts(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Arguments for `model.forward`, the fewest first; the caller stops when they have reached all."""
    parameters = inspect.signature(model.forward).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind in named]
    main = getattr(model, "main_input_name", None)
    mains = [n for n in dict.fromkeys((main, *MAIN)) if n in parameters and n not in required]
    second = [n for n in SECOND if n in parameters and n not in required]
    sets = [required] if required else []
    sets += [[*required, *mains[:1]], [*required, *mains[:1], *second], [*required, *mains]]
    if "pixel_values" in mains:
        sets.insert(1, [*required, *(n for n in ("input_ids", "pixel_values") if n in mains), *second])
    grids = [n for n in parameters if n.endswith("grid_thw")]
    tried = []
    for names in sets:
        chosen = list(dict.fromkeys([*names, *(grids if any("pixel" in n for n in names) else [])]))
        if "input_ids" in chosen and "inputs_embeds" in chosen:
            chosen.remove("inputs_embeds")
        chosen += [n for one in chosen for n in ALONG.get(one, ()) if n in parameters and n not in chosen]
        if chosen and chosen not in tried:
            tried.append(chosen)
            made = {name: make(name, model) for name in chosen}
            if "hidden_states" in made and "grid_thw" in made:
                made["hidden_states"] = _pixels(model.config)
            if "use_cache" in parameters:
                made["use_cache"] = False
            yield {name: value for name, value in made.items() if value is not None}
            if "pixel_values" in made and made["pixel_values"].dim() == 5:  # frames as images
                yield made | {"pixel_values": made["pixel_values"].flatten(0, 1)}


def make(name: str, model: nn.Module) -> Any:
    """A value for an argument of that name; None if nothing is known about it."""
    config = getattr(model, "config", None)
    known = MADE.get(name)
    if known is not None:
        return known(config)
    if name.endswith("grid_thw") or name == "grid_hw":
        return torch.tensor([GRID], device="cpu")
    if name.endswith(("_ids", "_indices", "tokens", "_codes")):
        return torch.zeros(1, LENGTH, dtype=torch.long)
    if name == "pixel_attention_mask":
        return torch.ones(1, GRID[1] * GRID[2], dtype=torch.long)
    if "mask" in name:
        return torch.ones(1, LENGTH, dtype=torch.long)
    if name.endswith(("hidden_states", "embeds", "states", "queries", "features", "embeddings")):
        return torch.zeros(1, LENGTH, _hidden(config))
    return None


def _get(config: Any, *names: str, default: Any = None) -> Any:
    """The first of some fields that a configuration, or else one of its parts, has."""
    holders = [config]
    for holder in holders:
        for name in names:
            value = getattr(holder, name, None)
            if value is not None and not callable(value):
                return value
        if holder is not None and len(holders) < 40:
            holders += [part for field in PARTS if (part := getattr(holder, field, None)) is not None]
    return default


def _hidden(config: Any) -> int:
    return _get(config, "hidden_size", "d_model", "n_embd", "dim", "embed_dim", default=64)


def _pixels(config: Any) -> torch.Tensor:
    channels = _get(config, "num_channels", "in_channels", "in_chans", default=3)
    if _get(config, "temporal_patch_size") is not None and _get(config, "spatial_merge_size") is not None:
        patch = _get(config, "patch_size", default=14)
        return torch.zeros(GRID[1] * GRID[2], channels * _get(config, "temporal_patch_size") * patch * patch)
    if "VideoLlama3" in type(config).__name__:
        return torch.zeros(GRID[1] * GRID[2], channels * _get(config, "patch_size", default=14) ** 2)
    if _get(config, "num_patches") is not None and type(config).__name__.startswith("Siglip2"):
        return torch.zeros(1, GRID[1] * GRID[2], channels * _get(config, "patch_size", default=16) ** 2)
    size = _get(config, "image_size", "input_size", "img_size", default=224)
    size = list(size.values()) if isinstance(size, dict) else size
    size = size if isinstance(size, (list, tuple)) else (size, size)
    shape = (1, channels, *size[-2:])
    frames = _get(config, "num_frames", "frames_per_clip", "num_image_with_embedding")
    return torch.zeros(1, frames, *shape[1:]) if frames else torch.zeros(shape)


def _video(config: Any) -> torch.Tensor:
    frames = _get(config, "num_frames", "frames_per_clip", default=16)
    still = _pixels(config)
    return still if still.dim() == 5 else torch.zeros(1, frames, *still.shape[1:])


def _mel(config: Any) -> torch.Tensor:
    bins = _get(
        config,
        "feature_projection_input_dim",
        "num_mel_bins",
        "feature_size",
        "input_feat_per_channel",
        "input_dim",
        default=80,
    )
    positions = _get(config, "max_source_positions", default=64)
    across = hasattr(config, "input_feat_per_channel") or hasattr(config, "feature_projection_input_dim")
    if hasattr(config, "max_source_positions") and not across:
        return torch.zeros(1, bins, 2 * positions)
    return torch.zeros(1, 128, bins)


def _audio(config: Any) -> torch.Tensor:
    if _get(config, "frequency_stride") is not None:
        return torch.zeros(
            1, _get(config, "max_length", default=1024), _get(config, "num_mel_bins", default=128)
        )
    channels = _get(config, "audio_channels", "codebook_size")
    return torch.zeros(1, 1, 16000) if channels is not None else torch.zeros(1, 16000)


def _past(config: Any) -> int:
    lags = _get(config, "lags_sequence", default=[0])
    return _get(config, "context_length", default=64) + (max(lags) if lags else 0)


MADE: dict[str, Callable[[Any], Any]] = {
    "input_ids": lambda c: torch.zeros(1, LENGTH, dtype=torch.long),
    "bbox": lambda c: torch.zeros(1, LENGTH, 4, dtype=torch.long),
    "boxes": lambda c: torch.zeros(1, LENGTH, 4),
    "pixel_values": _pixels,
    "pixel_values_videos": _video,
    "pixel_mask": lambda c: torch.ones(1, *_pixels(c).shape[-2:], dtype=torch.long),
    "merge_sizes": lambda c: torch.ones(1, dtype=torch.long, device="cpu"),
    "spatial_shapes": lambda c: torch.tensor([GRID[1:]], device="cpu"),
    "prompt_pixel_values": _pixels,
    "prompt_masks": _pixels,
    "input_values": _audio,
    "audio_values": lambda c: torch.zeros(1, 1, 16000),
    "decoder_input_values": lambda c: torch.zeros(1, LENGTH, _get(c, "num_mel_bins", default=80)),
    "input_features": _mel,
    "audio_mel": _mel,
    "spectrogram": lambda c: torch.zeros(1, 16, _get(c, "model_in_dim", "num_mel_bins", default=80)),
    "mel_spectrogram": lambda c: torch.zeros(1, _get(c, "mel_dim", default=80), 16),
    "past_values": lambda c: torch.zeros(1, _past(c), *([n] if (n := _get(c, "num_input_channels")) else [])),
    "past_time_features": lambda c: torch.zeros(1, _past(c), _get(c, "num_time_features", default=0)),
    "future_time_features": lambda c: torch.zeros(
        1, _get(c, "prediction_length", default=24), _get(c, "num_time_features", default=0)
    ),
    "past_observed_mask": lambda c: torch.ones(1, _past(c)),
    "past_values_padding": lambda c: torch.zeros(1, _past(c)),
    "freq": lambda c: torch.zeros(1, dtype=torch.long),
    "flattened_patches": lambda c: torch.zeros(
        1, LENGTH, 2 + _get(c, "patch_embed_hidden_size", default=768)
    ),
    "visual_feats": lambda c: torch.zeros(1, LENGTH, _get(c, "visual_feat_dim", default=2048)),
    "visual_pos": lambda c: torch.zeros(1, LENGTH, 4),
    "qformer_input_ids": lambda c: torch.zeros(1, LENGTH, dtype=torch.long),
    "latents": lambda c: torch.zeros(1, _hidden(c), LENGTH),
    "input_features_mask": lambda c: torch.ones(1, 128, dtype=torch.long),
    "task_inputs": lambda c: torch.zeros(1, _get(c, "task_seq_len", default=77), dtype=torch.long),
}
