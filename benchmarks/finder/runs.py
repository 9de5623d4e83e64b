"""One fine-tune of a pair at one rate: 60 updates of AdamW, warm-up over 10%, linear to 0, clipped to 1."""

import math
import time
from typing import NamedTuple

import torch
from tasks import Pair

import etude

UPDATES, CLIP = 60, 1.0
SHAPE = "(warmup(0.1) >> linear())"


class Run(NamedTuple):
    """How a run ended on the held-out examples. A run that diverged has the loss infinity."""

    loss: float
    accuracy: float
    train_loss: float
    seconds: float


def fine_tune(pair: Pair, rate: float, seed: int, updates: int = UPDATES) -> Run:
    """Train and judge. All rates of a seed see the same batches, head and dropout's random numbers."""
    model = pair.model(seed).train()
    plan = etude.plan(model, lr=f"{rate!r} * {SHAPE}", **pair.options)
    optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
    driver = etude.Driver(plan.over(updates), etude.torch.sink(optimizer))
    trained = [p for p in model.parameters() if p.requires_grad]
    batches, last = pair.batches(seed), []
    torch.manual_seed(seed)
    began = time.process_time()
    for k in range(updates):
        driver.apply(k)
        inputs, labels = next(batches)
        loss = pair.loss(model(*inputs), labels)
        if not torch.isfinite(loss):
            return Run(math.inf, 0.0, math.inf, time.process_time() - began)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        last = [*last, float(loss.detach())][-10:]
    held_out, accuracy = judged(pair, model)
    return Run(held_out, accuracy, sum(last) / len(last), time.process_time() - began)


@torch.no_grad()
def judged(pair: Pair, model: torch.nn.Module) -> tuple[float, float]:
    """Mean loss and accuracy over the held-out examples (words, where words are tagged)."""
    model.eval()
    total = right = n = 0.0
    for inputs, labels in pair.held_out():
        logits = model(*inputs)
        counts = labels >= 0
        total += float(pair.loss(logits, labels, reduction="sum"))
        right += float((logits.argmax(-1) == labels)[counts].sum())
        n += int(counts.sum())
    loss = total / n
    return (loss if math.isfinite(loss) else math.inf), right / n
