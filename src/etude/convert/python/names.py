"""The calls by which Python source makes a schedule, and the names that it gives to a run's length."""

from etude.convert.huggingface.arguments import RATES
from etude.convert.pytorch.composed import KNOWN

# transformers' functions -> the type they make and their arguments after the optimizer.
MAKERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "get_constant_schedule": ("constant", ()),
    "get_constant_schedule_with_warmup": ("constant_with_warmup", ("num_warmup_steps",)),
    "get_linear_schedule_with_warmup": ("linear", ("num_warmup_steps", "num_training_steps")),
    "get_cosine_schedule_with_warmup": ("cosine", ("num_warmup_steps", "num_training_steps", "num_cycles")),
    "get_cosine_with_hard_restarts_schedule_with_warmup": (
        "cosine_with_restarts", ("num_warmup_steps", "num_training_steps", "num_cycles"),
    ),
    "get_polynomial_decay_schedule_with_warmup": (
        "polynomial", ("num_warmup_steps", "num_training_steps", "lr_end", "power"),
    ),
    "get_inverse_sqrt_schedule": ("inverse_sqrt", ("num_warmup_steps", "timescale")),
    "get_cosine_with_min_lr_schedule_with_warmup": (
        "cosine_with_min_lr",
        ("num_warmup_steps", "num_training_steps", "num_cycles", "last_epoch", "min_lr", "min_lr_rate"),
    ),
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate": (
        "cosine_warmup_with_min_lr",
        ("num_warmup_steps", "num_training_steps", "num_cycles", "last_epoch", "min_lr", "min_lr_rate",
         "warmup_lr_rate"),
    ),
    "get_wsd_schedule": (
        "warmup_stable_decay",
        ("num_warmup_steps", "num_decay_steps", "num_training_steps", "num_stable_steps", "warmup_type",
         "decay_type", "min_lr_ratio", "num_cycles"),
    ),
    "get_reduce_on_plateau_schedule": ("reduce_lr_on_plateau", ()),
    "get_greedy_schedule": ("greedy", ()),
    "get_scheduler": (
        "", ("num_warmup_steps", "num_training_steps", "scheduler_specific_kwargs"),
    ),
}  # fmt: skip
ARGUMENTS = {*RATES, "CPOConfig", "ORPOConfig", "PPOConfig", "OnlineDPOConfig", "UnslothTrainingArguments"}
SCHEDULES = {*MAKERS, *ARGUMENTS, *KNOWN}
# What a run's length is usually called; `total` stands for it where the source does not say it.
LENGTHS = (
    "num_training_steps", "total_steps", "max_steps", "max_train_steps", "num_train_steps", "total_iters",
    "num_steps", "n_steps", "training_steps", "train_steps", "T_max", "max_iters", "num_iters",
)  # fmt: skip
