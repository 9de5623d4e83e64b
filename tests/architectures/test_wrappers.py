"""One model, one table: under PEFT, torch.compile, data parallelism, sharding, and under any head."""

import contextlib
import re

import pytest
import torch
from proof.models import build, quiet
from torch import nn
from transformers.pytorch_utils import Conv1D

from etude.model.ladder import ladder
from etude.torch.leaves import leaves

# A base model and a task of it: text, vision, audio, two towers, encoder and decoder, experts, state spaces.
FAMILIES = """
bert            BertModel               BertForSequenceClassification
roberta         RobertaModel            RobertaForTokenClassification
distilbert      DistilBertModel         DistilBertForMaskedLM
albert          AlbertModel             AlbertForSequenceClassification
deberta-v2      DebertaV2Model          DebertaV2ForSequenceClassification
electra         ElectraModel            ElectraForPreTraining
modernbert      ModernBertModel         ModernBertForSequenceClassification
gpt2            GPT2Model               GPT2ForSequenceClassification
gpt_neox        GPTNeoXModel            GPTNeoXForCausalLM
bloom           BloomModel              BloomForCausalLM
opt             OPTModel                OPTForCausalLM
llama           LlamaModel              LlamaForCausalLM
qwen3           Qwen3Model              Qwen3ForSequenceClassification
gemma2          Gemma2Model             Gemma2ForCausalLM
mixtral         MixtralModel            MixtralForCausalLM
mamba           MambaModel              MambaForCausalLM
xlnet           XLNetModel              XLNetForSequenceClassification
t5              T5Model                 T5ForConditionalGeneration
bart            BartModel               BartForConditionalGeneration
whisper         WhisperModel            WhisperForConditionalGeneration
wav2vec2        Wav2Vec2Model           Wav2Vec2ForCTC
hubert          HubertModel             HubertForSequenceClassification
vit             ViTModel                ViTForImageClassification
beit            BeitModel               BeitForImageClassification
dinov2          Dinov2Model             Dinov2ForImageClassification
swin            SwinModel               SwinForImageClassification
convnext        ConvNextModel           ConvNextForImageClassification
resnet          ResNetModel             ResNetForImageClassification
llava           LlavaModel              LlavaForConditionalGeneration
qwen2_vl        Qwen2VLModel            Qwen2VLForConditionalGeneration
clip            CLIPVisionModel         CLIPForImageClassification
"""
CASES = [line.split() for line in FAMILIES.strip().splitlines()]
QUICK = ("bert", "gpt2", "t5", "wav2vec2", "swin", "llava")
families = pytest.mark.parametrize(
    ("family", "base", "task"),
    [pytest.param(*case, id=case[0], marks=() if case[0] in QUICK else pytest.mark.all) for case in CASES],
)


def table(model, *prefixes):
    """The rung of every parameter, by its name without what a wrapper puts before and into it."""
    found = {}
    for placement in ladder(leaves(model)).placements:
        for name in placement.names:
            for prefix in prefixes:
                name = name.replace(prefix, "")
            found[name] = placement.tower, placement.depth
    assert len(found) > 10
    return found


@families
def test_a_compiled_and_a_parallel_model_have_the_table_of_their_own(family, base, task):
    model = build(family, task)
    plain = table(model)
    assert table(torch.compile(model), "_orig_mod.") == plain
    assert table(nn.DataParallel(model), "module.") == plain
    assert table(nn.DataParallel(torch.compile(model)), "module.", "_orig_mod.") == plain


@families
def test_lora_matrices_stand_with_the_layer_that_holds_them(family, base, task):
    peft = pytest.importorskip("peft", reason="PEFT")
    model = build(family, task)
    plain = table(model)
    with quiet(), torch.device("meta"):
        wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets(model), r=2))
    found = table(wrapped, "base_model.model.", ".base_layer")
    lora = {name: at for name, at in found.items() if ".lora_" in name}
    assert len(lora) > 3
    assert {name: at for name, at in found.items() if name not in lora} == plain
    for name, at in lora.items():
        assert at == plain[re.sub(r"\.lora_.*", ".weight", name)], name


def targets(model):
    """The names of the linear layers that are inside blocks, by which PEFT chooses."""
    found = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d, Conv1D))
        and re.search(r"\.\d+\.", name)
        and not name.rpartition(".")[2].isdigit()
        and getattr(module, "groups", 1) == 1
    }
    return sorted(
        found - {"out_proj"} if model.config.model_type == "mamba" else found
    )  # PEFT refuses it there


@families
def test_a_head_moves_nothing_of_the_model_below_it(family, base, task):
    bare, whole = build(family, base), build(family, task)
    kinds = {path: type(module) for path, module in whole.named_modules()}
    path = next((path for path, kind in kinds.items() if kind is type(bare)), "")  # T5's task has no T5Model
    prefix = f"{path}." if path else ""
    below = {name.removeprefix(prefix): at for name, at in table(whole).items()}
    plain = table(bare)
    shared = plain.keys() & below.keys()
    assert len(shared) > 0.9 * len(plain)
    assert {name: below[name] for name in shared} == {name: plain[name] for name in shared}


@pytest.fixture
def group(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    with contextlib.suppress(AssertionError):
        yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "vit"])
def test_ddp_and_both_fsdp_have_the_table_of_the_model(family, group):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.nn.parallel import DistributedDataParallel

    model = small(family)
    plain = table(model)
    assert table(DistributedDataParallel(model, find_unused_parameters=True), "module.") == plain
    sharded = FullyShardedDataParallel(small(family), use_orig_params=True, device_id=torch.device("cpu"))
    assert table(sharded, "_fsdp_wrapped_module.") == plain
    assert table(fully_shard(small(family))) == plain


def small(family):
    """A model of three blocks with weights."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    names = {
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 2,
        "d_model": 32,
        "num_layers": 3,
        "d_ff": 48,
        "num_heads": 2,
    }
    config = AutoConfig.for_model(family)
    known = {
        key: value for key, value in (sizes | names | {"vocab_size": 99}).items() if hasattr(config, key)
    }
    return AutoModel.from_config(AutoConfig.for_model(family, **known))
