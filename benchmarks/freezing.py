"""What freezing saves of an update. Run: .venv/bin/python benchmarks/freezing.py

An encoder of 6 layers (width 384, vocabulary 30,522), 8 texts of 64 tokens, dropout on, fused AdamW: forward,
backward and step, with `driver.apply` before them. Every case takes turns with the others in one process; one
thread, CPU time, medians of the ratios to the update in which everything trains. The last case leaves
`requires_grad` alone and sets the rate to 0, as other tools do.
"""

import statistics
import time
from dataclasses import replace

import torch
from transformers import BertConfig, BertForSequenceClassification

import etude

TURNS, BATCH, LENGTH = 15, 8, 64
CASES = {
    "everything trains": "*",
    "embeddings and 2 layers frozen": "layer.2..head",
    "embeddings and 4 layers frozen": "layer.4..head",
    "4 layers frozen, the embeddings not": "embeddings+layer.4..head",
    "embeddings, 6 layers, pooler frozen": "head",
    "rate 0 in their place": "head",
}
BARS = {"embeddings and 4 layers frozen": 0.58, "embeddings, 6 layers, pooler frozen": 0.38}


class Case:
    """One way of training the model; each has an optimizer of its own."""

    def __init__(self, model: torch.nn.Module, rungs: str, zero: bool):
        stages = f'stage("{rungs}", 0.5) >> stage()'
        plan = etude.plan(model, 2e-5, weight_decay=0.01, stages=stages)
        if zero:
            still = etude.parse("hold(0.5, start=0) >> hold(start=1)")
            plan = etude.Plan(plan.hypers, [replace(g, gate=g.gate and still) for g in plan.groups])
        self.model = model
        self.optimizer = torch.optim.AdamW(plan.torch_groups(model), fused=True)
        self.driver = etude.Driver(plan.over(10**6), etude.torch.sink(self.optimizer))

    def update(self, k: int, batch: dict[str, torch.Tensor]) -> float:
        """Seconds of CPU that the update takes."""
        self.driver.sink.open(self.driver.rates.open(k))  # before, the model was another case's
        began = time.process_time()
        self.driver.apply(k)
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        taken = time.process_time() - began
        self.trains = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return taken

    def state(self) -> int:
        """Bytes of the optimizer's state."""
        tensors = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main() -> None:
    """Print time and state of every case as a table."""
    torch.set_num_threads(1)
    torch.manual_seed(17)
    sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    model = BertForSequenceClassification(BertConfig(vocab_size=30522, **sizes)).train()
    batch = {"input_ids": torch.randint(30522, (BATCH, LENGTH)), "labels": torch.randint(2, (BATCH,))}
    cases = {name: Case(model, rungs, name.startswith("rate 0")) for name, rungs in CASES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for k in range(TURNS + 1):
        order = list(cases) if k % 2 else list(reversed(cases))
        for name in order:
            seconds[name].append(cases[name].update(k, batch))
    whole, every = seconds["everything trains"], cases["everything trains"]
    full = f"{statistics.median(whole) * 1e3:.0f} ms, {every.state() / 1e6:.0f} MB of state"
    print(f"ratios to an update in which everything trains ({full})")
    print(f"{'':38}{'time':>7}{'state':>7}{'what trains':>13}")
    for name, one in cases.items():
        # The first update of each allocates.
        ratios = [mine / theirs for mine, theirs in zip(seconds[name][1:], whole[1:], strict=True)]
        shares = f"{one.state() / every.state():7.3f}{one.trains / every.trains:13.3f}"
        bar = f"   the bar is {BARS[name]}" if name in BARS else ""
        print(f"{name:38}{statistics.median(ratios):7.2f}{shares}{bar}")


if __name__ == "__main__":
    main()
