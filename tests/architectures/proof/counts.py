"""The names under which configurations hold the number of a model's blocks, and what was counted by hand."""

import re
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

Config = dict[str, Any]

# The number of blocks of a model or of one of its towers.
COUNTS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers",
    "num_encoder_layers", "num_decoder_layers", "encoder_num_hidden_layers", "decoder_num_hidden_layers",
    "decoder_num_layers", "depth", "num_blocks", "layers", "l_layers", "x_layers", "r_layers",
    "num_spatial_layers", "num_temporal_layers", "pred_num_hidden_layers", "num_layers_per_stack",
    "num_global_layers", "conf_num_hidden_layers", "decoder_depth", "resampler_depth", "num_attention_layers",
    "num_self_attends_per_block", "folding_trunk_num_hidden_layers", "t2u_encoder_layers",
    "t2u_decoder_layers", "speech_encoder_layers", "audio_layers",
)  # fmt: skip

# The numbers of blocks of the stages of a model.
STAGES = ("depths", "stage_num_blocks", "blocks_per_stage", "block_sizes", "layer_depths", "depth")

# Numbers of parts that stand beside the blocks: a tower of their own, or none.
PARTS = (
    "num_feat_extract_layers", "num_adapter_layers", "num_auxiliary_layers", "num_pooler_layers",
    "memory_attention_num_layers", "memory_fuser_num_layers", "num_upscale_blocks", "mit_num_hidden_layers",
    "parcae_num_coda_layers", "perceiver_resampler_num_layers",
)  # fmt: skip

# Members of lists as long as a tower that are beside its blocks: a head for each layer, a norm, a projection.
BESIDE = re.compile(r"MLP|LQE|Head|Predictor$|Proj|Merger|^(Linear|ModuleList|Sequential)$|Norm$")


class Hand(NamedTuple):
    """A number of blocks that a person read off the modeling code, and why it is that number."""

    count: Callable[[Config], int]
    why: str


def _fixed(number: int) -> Callable[[Config], int]:
    return lambda config: number


def _resolutions(more: int) -> Callable[[Config], int]:
    return lambda config: (config["num_res_blocks"] + more) * len(config["channel_multiplier"])


_UPSAMPLED = Hand(
    lambda c: len(c["upsample_rates"]) * len(c["resblock_kernel_sizes"]),
    "the residual blocks of each upsampling; those of one run beside each other",
)
_ENCODED = Hand(_resolutions(0), "the residual blocks of all resolutions")
_DECODED = Hand(
    _resolutions(1), "the residual blocks of all resolutions, one more in each than in the encoder"
)
_AFTER_STEM = Hand(lambda c: sum(c["depths"][1:]), "the first of the depths are the stem's")
_INNER = "num_hidden_layers of a configuration inside this one that no module holds"
_PREDICTED = Hand(
    lambda c: c["decoder_layers"] - 1, "decoder_layers counts the prediction before the first layer"
)

# What no configuration counts, by its class and the end of the list's path. A list of stages may be counted
# by its stages or by the blocks in them.
HAND: dict[tuple[str, str], Hand] = {
    ("AlbertConfig", "albert_layer_groups"): Hand(
        lambda c: c["num_hidden_groups"] * c["inner_group_num"],
        "one set of weights, run num_hidden_layers times",
    ),
    ("CLIPSegConfig", "decoder.layers"): Hand(
        lambda c: len(c["extract_layers"]), "one for each layer of the vision model that the decoder reads"
    ),
    ("ChameleonVQVAEConfig", "encoder.down"): _ENCODED,
    ("DacConfig", "encoder.block"): Hand(
        lambda c: len(c["downsampling_ratios"]), "one for each downsampling"
    ),
    ("DacConfig", "decoder.block"): Hand(lambda c: len(c["upsampling_ratios"]), "one for each upsampling"),
    ("DiffusionGemmaConfig", "layers"): Hand(
        _fixed(30), "those of the text configuration, shared by the encoder"
    ),
    ("EfficientNetConfig", "blocks"): Hand(
        lambda c: sum(ceil(c["depth_coefficient"] * n) for n in c["num_block_repeats"]),
        "each stage repeats its block depth_coefficient × num_block_repeats times, rounded up",
    ),
    ("Emu3VQVAEConfig", "down_block.down"): _ENCODED,
    ("Emu3VQVAEConfig", "up_block.up"): _DECODED,
    ("EncodecConfig", "layers"): Hand(
        lambda c: 2 * len(c["upsampling_ratios"]) + 3,
        "a convolution and a residual unit for each ratio, one more convolution at each end, an LSTM",
    ),
    ("EsmFold2Config", "atom_decoder.layers"): Hand(_fixed(3), _INNER),
    ("EsmFold2Config", "atom_encoder.layers"): Hand(_fixed(3), _INNER),
    ("EsmFold2Config", "lm_encoder.layers"): Hand(_fixed(4), _INNER),
    ("EsmFold2Config", "msa_encoder.layers"): Hand(_fixed(4), _INNER),
    ("EsmFold2Config", "token_transformer.layers"): Hand(_fixed(12), _INNER),
    ("FastSpeech2ConformerHifiGanConfig", "resblocks"): _UPSAMPLED,
    ("InklingVisionConfig", "encoder_layers"): Hand(
        lambda c: c["num_hidden_layers"], "a projection and a norm each"
    ),
    ("JanusVQVAEConfig", "decoder.up"): _DECODED,
    ("JanusVQVAEConfig", "encoder.down"): _ENCODED,
    ("LevitConfig", "stages"): Hand(
        lambda c: 2 * sum(c["depths"]) + 2 * (len(c["depths"]) - 1),
        "attention and feed-forward are members of their own; two more shrink the image between stages",
    ),
    ("Mask2FormerConfig", "transformer_module.decoder.layers"): _PREDICTED,
    ("MobileNetV1Config", "layer"): Hand(_fixed(26), "13 pairs of a depthwise and a pointwise convolution"),
    ("MobileNetV2Config", "layer"): Hand(_fixed(16), "the inverted residuals after the stem's"),
    ("MobileViTConfig", "encoder.layer"): Hand(
        _fixed(1 + 3 + 2 + 4 + 3), "two stages of inverted residuals, then three of transformer layers"
    ),
    ("MobileViTV2Config", "encoder.layer"): Hand(
        lambda c: 1 + 2 + sum(c["n_attn_blocks"]), "two stages of inverted residuals, then n_attn_blocks"
    ),
    ("OneFormerConfig", "transformer_module.decoder.layers"): _PREDICTED,
    ("Qwen2_5OmniBigVGANConfig", "resblocks"): _UPSAMPLED,
    ("SeamlessM4TConfig", "hifi_gan.resblocks"): _UPSAMPLED,
    ("SeamlessM4Tv2Config", "hifi_gan.resblocks"): _UPSAMPLED,
    ("SpeechT5HifiGanConfig", "resblocks"): _UPSAMPLED,
    ("SuperGlueConfig", "gnn.layers"): Hand(_fixed(18), "nine pairs of self- and cross-attention"),
    ("SuperPointConfig", "conv_blocks"): Hand(lambda c: len(c["encoder_hidden_sizes"]), "one for each width"),
    ("SwiftFormerConfig", "network"): Hand(
        lambda c: sum(c["depths"]), "stages and embeddings share one list"
    ),
    ("UnivNetConfig", "resblocks"): Hand(lambda c: len(c["resblock_stride_sizes"]), "one for each stride"),
    ("VibeVoiceAcousticTokenizerDecoderConfig", "conv_layers"): _AFTER_STEM,
    ("VibeVoiceAcousticTokenizerEncoderConfig", "conv_layers"): _AFTER_STEM,
    ("VitsConfig", "decoder.resblocks"): _UPSAMPLED,
}

# Lists of layers that run beside each other or on what towers gave, read off the modeling code.
BESIDE_LISTS = {
    ("EsmFold2Config", "confidence_head.folding_trunk.layers"),
    ("PPOCRV6SmallDetConfig", "neck.input_conv"),
    ("SLANetConfig", "post_csp_pan.downsamples"),
}

# Blocks that no list holds: what their paths look like, and how many there are.
NAMED: dict[str, tuple[str, Hand]] = {
    "FlavaImageCodebookConfig": (
        r"blocks\.group_\d\.group\.block_\d",
        Hand(_fixed(4 * 2), "num_groups of num_blocks_per_group, held by names"),
    ),
}

# timm models inside models of transformers, by the kind of their blocks and the number of their stages.
TIMM = {
    ("Bottleneck", 4): Hand(_fixed(3 + 4 + 6 + 3), "timm's resnet50"),
    ("Bottleneck", 3): Hand(_fixed(3 + 4 + 6), "timm's resnet50 without the last stage"),
    ("SwinTransformerBlock", 4): Hand(_fixed(2 + 2 + 6 + 2), "timm's swin_tiny_patch4_window7_224"),
}
