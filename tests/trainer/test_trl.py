"""TRL's trainers: the model is wrapped with LoRA, and the data packed, inside their constructors."""

import pytest

pytest.importorskip("trl", reason="the trainers are TRL's")
pytest.importorskip("peft", reason="LoRA is peft's")

import peft
import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import etude
from etude import early_stop
from etude.trainer import attach

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of TRL on transformers

LR = "5e-2 * (warmup(0.3) >> cosine(to=0.01))"
TEXTS = [f"the cat {i} sat on the mat and saw {i * 7 % 13} dogs near the house" for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "[EOS]"}
    words.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=list(special.values())))
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def llama(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=1, eos_token_id=2, **sizes
    )
    return LlamaForCausalLM(config)


def usual(tmp_path, **keys):
    return {
        "output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 2, "use_cpu": True, "bf16": False,
        "report_to": [], "disable_tqdm": True, "save_strategy": "no", "optim": "sgd", **keys,
    }  # fmt: skip


def planned(model, total, tick=0.5, **keys):
    rates = etude.plan(model, **keys, tick=tick).over(total)
    names = [group.name for group in rates.plan.groups]
    return [dict(zip(names, row, strict=True)) for row in rates.matrix()]


def test_sft_with_lora_and_packing(tokenizer, record, tmp_path):
    """Only LoRA's weights train, layer by layer, and an epoch is as long as the packed data."""
    trainer = trl.SFTTrainer(
        llama(tokenizer),
        args=trl.SFTConfig(**usual(tmp_path, packing=True, max_length=32, num_train_epochs=1)),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"]),
    )
    attached = attach(trainer, LR, layer_decay=0.5)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.add_callback(seen := record(unit=True))
    trainer.train()
    updates = -(-len(trainer.train_dataset) // 2)
    assert 5 < updates < len(TEXTS) // 2
    assert seen.rates == planned(trainer.model, updates, lr=LR, layer_decay=0.5)
    moved = {name: before[name] - p.detach() for name, p in trainer.model.named_parameters()}
    for group in attached.plan.groups:
        rate = sum(row[group.name] for row in seen.rates)
        for name in group.params:
            torch.testing.assert_close(moved.pop(name), torch.full_like(before[name], rate))
    assert [group.name for group in attached.plan.groups] == ["layer.0", "layer.1"]
    assert moved
    assert not any(delta.any() for delta in moved.values())


def test_a_metric_of_sfts_own_ends_the_run(tokenizer, tmp_path):
    trainer = trl.SFTTrainer(
        llama(tokenizer),
        args=trl.SFTConfig(**usual(tmp_path, eval_strategy="steps", eval_steps=2, max_length=32)),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        eval_dataset=Dataset.from_dict({"text": TEXTS[:4]}),
        processing_class=tokenizer,
    )
    stop = early_stop("eval_mean_token_accuracy", patience=2, greater_is_better=True, threshold=9.0)
    attached = attach(trainer, LR, controllers=[stop])
    trainer.train()
    assert attached.t == trainer.state.global_step == 6
    logged = [row for row in trainer.state.log_history if "eval_mean_token_accuracy" in row]
    assert attached.driver.memory["early_stop"]["best"] == logged[0]["eval_mean_token_accuracy"]


@pytest.mark.parametrize("lora", [False, True])
def test_dpo(tokenizer, record, tmp_path, lora):
    pairs = [{"prompt": text[:12], "chosen": text[12:], "rejected": text[::-1]} for text in TEXTS[:12]]
    trainer = trl.DPOTrainer(
        llama(tokenizer),
        ref_model=None if lora else llama(tokenizer),
        args=trl.DPOConfig(**usual(tmp_path, logging_steps=1, max_length=32)),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=4, target_modules=["v_proj"]) if lora else None,
    )
    attach(trainer, LR, layer_decay=0.5)
    trainer.add_callback(seen := record())
    trainer.train()
    assert trainer.state.global_step > 0
    assert seen.rates == planned(trainer.model, trainer.state.max_steps, lr=LR, layer_decay=0.5)
    logged = [row["lr/layer.0"] for row in trainer.state.log_history if "loss" in row]
    assert logged == [row["layer.0"] for row in seen.rates]
