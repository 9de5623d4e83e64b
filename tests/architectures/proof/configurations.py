"""Configurations for the model types whose default one builds no model.

By model type, or by type and class. A name is an argument of the configuration; one that begins with a dot is
an attribute set afterwards, for what the code reads and the configuration does not take.
"""

from typing import Any

_ROPE = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
_HEADS = {"head_dim": 128}
_FORECAST = {"prediction_length": 24}
_DENSE_ASSISTANT = {
    "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 30,
    "num_hidden_layers": 30,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 64}
_INDEXER = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 256,
    "indexer_compress_ratio": 4,
}  # fmt: skip
_INTRACLASS = {
    "reduce_channel": [1, 1, 0],
    "return_channel": [1, 1, 0],
    **{
        f"{kind}_{ratio}ratio": [kernel, 1, padding]
        for ratio, n in (("long", 7), ("mid", 5), ("short", 3))
        for kind, kernel, padding in (
            ("vertical_long_to_small_conv", [n, 1], [n // 2, 0]),
            ("horizontal_small_to_long_conv", [1, n], [0, n // 2]),
            ("symmetric_conv_long", [n, n], [n // 2, n // 2]),
        )
    },
}
_SAPIENS_HEAD = {
    "head_config": {
        "upsample_out_channels": [768, 512],
        "conv_out_channels": [256, 128],
        "scale_conv_out_channels": [256, 64],
        "scale_final_hidden_sizes": [64, 64],
    }
}
_SAPIENS = (
    "ImageMatting",
    "NormalEstimation",
    "PointmapEstimation",
    "PoseEstimation",
    "SemanticSegmentation",
)
_PERCEIVERS = (
    "ForImageClassificationFourier", "ForImageClassificationConvProcessing", "ForOpticalFlow",
    "ForMultimodalAutoencoding",
)  # fmt: skip
_MIXED = ["conv", "conv", "full_attention", "conv"] * 8

CHANGES: dict[str, dict[str, Any]] = {
    "autoformer": _FORECAST,
    "informer": _FORECAST,
    "time_series_transformer": _FORECAST,
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 16}},
    "beit:BeitForSemanticSegmentation": {"out_indices": [3, 5, 7, 11]},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "emu3": {"vocabulary_map": {"<image>": 4}},
    "bridgetower:BridgeTowerForContrastiveLearning": {
        ".contrastive_hidden_size": 512,
        ".logit_scale_init_value": 2.6592,
    },
    "cohere_compass": {"text_config": {"rope_parameters": _ROPE}},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "convnext:ConvNextBackbone": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    "convnextv2:ConvNextV2Backbone": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    "focalnet:FocalNetBackbone": {"hidden_sizes": [192, 384, 768, 768]},
    "dbrx": {".attn_config.rope_theta": 1e4},
    "deepseek_ocr2": {".text_config.mlp_layer_types": ["dense"] + ["sparse"] * 50},
    "deepseek_ocr2_text": {".mlp_layer_types": ["dense"] + ["sparse"] * 50},
    "diffusion_gemma": {"text_config": _EXPERTS},
    "diffusion_gemma_text": _EXPERTS,
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "esm:EsmForProteinFolding": {
        "vocab_size": 33,
        "pad_token_id": 1,
        "mask_token_id": 32,
        "is_folding_model": True,
    },
    "gemma4_assistant": {
        "text_config": {"model_type": "gemma4_text", **_DENSE_ASSISTANT},
        ".text_config.num_kv_shared_layers": 0,
    },
    "gemma4_unified_assistant": {
        "text_config": {"model_type": "gemma4_unified_text", **_DENSE_ASSISTANT},
        ".text_config.num_kv_shared_layers": 0,
    },
    "granite4_vision": {
        "downsample_rate": "4/8",
        "deepstack_layer_map": [[-19, 9], [-13, 6], [-7, 3], [-1, 0]],
    },
    "hiera:HieraForPreTraining": {"decoder_hidden_size": 512, "decoder_depth": 8, "decoder_num_heads": 16},
    "hunyuan_v1_dense": _HEADS,
    "hunyuan_v1_moe": _HEADS,
    "hunyuan_vl": {"text_config": _HEADS},
    "hunyuan_vl_text": _HEADS,
    "ministral": _HEADS,
    "lfm2_moe": {"layer_types": _MIXED},
    "moonshine_streaming": {".num_key_value_heads": 8},
    "moshi:MoshiForConditionalGeneration": {"audio_vocab_size": 2048},
    "nemotron": {"num_key_value_heads": 8},
    **{f"perceiver:Perceiver{kind}": {"num_cross_attention_heads": 1} for kind in _PERCEIVERS},
    "perception_lm": {
        "vision_config": {
            "architecture": "vit_pe_core_large_patch14_336",
            "model_args": {"embed_dim": 1024},
        }
    },
    "pp_ocrv5_server_det": {"intraclass_block_config": _INTRACLASS, "kernel_list": [3, 2, 2]},
    "pp_ocrv6_medium_det": {"intraclass_block_config": _INTRACLASS, "kernel_list": [3, 2, 2]},
    "qwen3_omni_moe": {
        ".talker_config.spatial_merge_size": 2,
        ".talker_config.text_config.shared_expert_intermediate_size": 512,
    },
    "qwen3_omni_moe_talker_text:Qwen3OmniMoeTalkerModel": {".shared_expert_intermediate_size": 512},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp:Qwen4ExpForCausalLM": _INDEXER,
    "qwen4_exp_text": _INDEXER,
    "reformer:ReformerModelWithLMHead": {"is_decoder": True},
    "t5gemma:T5GemmaEncoderModel": {"is_encoder_decoder": False},
    "t5gemma2_encoder": {".text_config.dropout_rate": 0.0},
    "timm_backbone": {"backbone": "resnet50"},
    "vilt:ViltForImagesAndTextClassification": {"num_images": 2},
    "vitmatte": {"fusion_hidden_sizes": [256, 128, 64, 32], "convstream_hidden_sizes": [48, 96, 192]},
    "wav2vec2-bert:Wav2Vec2BertForCTC": {"vocab_size": 32},
    "wav2vec2-conformer:Wav2Vec2ConformerForCTC": {"vocab_size": 32},
    **{f"sapiens2:Sapiens2For{kind}": _SAPIENS_HEAD for kind in _SAPIENS},
}

# What cannot be built here, and why.
NOT_BUILT = {
    "layoutlmv2": "its visual backbone is detectron2's, which is not on PyPI",
    "layoutxlm": "LayoutLMv2 under another name",
    "uvdoc UVDocBridge": "takes a configuration that no public class has; it is judged inside UVDocModel",
}
