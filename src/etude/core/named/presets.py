"""Presets: what guides tabulate for whole situations, with their peaks, put right where they were wrong.

A peak is a starting point for a search, not a law: it depends on model, batch, data and optimizer.
"""

from typing import Any

from etude.core.named.cycles import one_cycle
from etude.core.named.decays import constant_with_warmup, cosine_with_warmup, linear_with_warmup
from etude.core.named.recipe import recipe
from etude.core.path import Schedule


@recipe
def llm_pretraining(peak: float = 3e-4, warmup: Any = 2000, to: float = 0.0) -> Schedule:
    """For a language model from scratch: cosine after 2000 updates of warm-up, peak 3e-4.

    Source: a guide's table; the numbers are those of LLaMA 7B. The guide's floor of a hundredth of the peak
    is left out: to zero is better (Bergsma et al., arXiv 2502.15938).
    For: known to train models of some 7 billion parameters.
    Use: as the first try at that size.
    Avoid: at other sizes and budgets without a search: larger models take lower rates, not higher ones.

    >>> llm_pretraining()
    0.0003 * (warmup(2000) >> cosine())
    """
    return peak * cosine_with_warmup(warmup, to)


@recipe
def supervised_finetuning(peak: float = 2e-5, warmup: Any = 100, to: float = 0.0) -> Schedule:
    """For full supervised fine-tuning of a language model: cosine after 100 updates of warm-up, peak 2e-5.

    Source: a guide's table; 2e-5 is what Llama 2 was tuned with.
    For: a widely copied setting, so that results compare.
    Use: as the upper end of a search; 5e-6 is as common at 8 billion.
    Avoid: where the model must keep what it knew: a lower rate reaches a similar score and forgets less
    (arXiv 2509.20758). In a run of a few hundred updates write warmup=0.06.

    >>> supervised_finetuning()
    2e-05 * (warmup(100) >> cosine())
    """
    return peak * cosine_with_warmup(warmup, to)


@recipe
def preference_tuning(peak: float = 5e-7, warmup: Any = 50) -> Schedule:
    """For tuning on preferences (RLHF, DPO): constant after 50 updates of warm-up, peak 5e-7.

    Source: a guide's table, which has 1e-6 to 5e-6 and constant or cosine; DPO is usually run at 1e-7 to
    1e-6.
    For: so low a rate moves the model little from the one it is compared with.
    Use: for DPO of a whole model; cosine_with_warmup() in place of the plateau is as common.
    Avoid: with LoRA, which takes about ten times the rate of full fine-tuning.

    >>> preference_tuning()
    5e-07 * (warmup(50) >> hold())
    """
    return peak * constant_with_warmup(warmup)


@recipe
def lora_finetuning(peak: float = 2e-4, warmup: Any = 0.1, to: float = 0.0) -> Schedule:
    """For LoRA: cosine after a tenth of warm-up, peak 2e-4.

    Source: a guide's table; fits to 81 pairs of model and rank put the best rate at 2.6e-4 in the median,
    half of them between 2.0e-4 and 3.6e-4.
    For: close to the best nearly everywhere: in those fits it costs 0.2% on average, 2.1% at worst.
    Use: for any rank and from 1 to hundreds of billions of parameters: the best rate stays within a factor of
    about 3.
    Avoid: for full fine-tuning, where it is about ten times too high.

    >>> lora_finetuning()
    0.0002 * (warmup(0.1) >> cosine())
    """
    return peak * cosine_with_warmup(warmup, to)


@recipe
def embedding_training(peak: float = 2e-5, warmup: Any = 0.1) -> Schedule:
    """For sentence embeddings: linear after a tenth of warm-up, peak 2e-5.

    Source: a guide's table; the recipe of Sentence-BERT (Reimers & Gurevych, arXiv 1908.10084).
    For: simple, and the setting that published sentence encoders began with.
    Use: for contrastive fine-tuning of encoders of BERT's size.
    Avoid: for small encoders without a search: some of them take up to 3e-4.

    >>> embedding_training()
    2e-05 * (warmup(0.1) >> linear())
    """
    return peak * linear_with_warmup(warmup)


@recipe
def one_cycle_similar_domain(peak: float = 1e-3, pct_start: Any = 0.3, div: float = 25) -> Schedule:
    """For an ImageNet network on a similar domain: one-cycle, peak 1e-3, a rise of 30%.

    Source: a guide's table without a study behind it; 0.3 and 25 are torch's defaults.
    For: the standard settings, so that only the peak is to be found.
    Use: for convolutional networks with Adam; find the peak with a range test.
    Avoid: with SGD, whose rates are higher by orders of magnitude.

    >>> one_cycle_similar_domain()
    0.001 * (cosine(0.3, to=1, start=0.04) >> cosine(to=4e-06))
    """
    return peak * one_cycle(pct_start, div)


@recipe
def one_cycle_new_domain(peak: float = 5e-4, pct_start: Any = 0.4, div: float = 25) -> Schedule:
    """For an ImageNet network on a different domain: one-cycle, peak 5e-4, a rise of 40%.

    Source: a guide's table without a study behind it.
    For: a longer rise and a lower peak than the standard settings: the careful choice.
    Use: for convolutional networks on medical, satellite or other images unlike photographs.
    Avoid: where the low layers must change most, as under noise or blur: tuning only the first layers did
    better there (arXiv 2210.11466).

    >>> one_cycle_new_domain()
    0.0005 * (cosine(0.4, to=1, start=0.04) >> cosine(to=4e-06))
    """
    return peak * one_cycle(pct_start, div)


@recipe
def one_cycle_bert(peak: float = 2e-5, pct_start: Any = 0.1, div: float = 10) -> Schedule:
    """For an encoder like BERT on a text task: one-cycle, peak 2e-5, a rise of 10% from a tenth.

    Source: a guide's table; peak and rise are those of BERT's own recipe (arXiv 1810.04805), which is linear.
    For: a short rise within a small range of rates, as encoders are used to.
    Use: where a cosine without a corner is wanted in place of linear_with_warmup().
    Avoid: cycling β1 with it by accident, as torch's OneCycleLR does.

    >>> one_cycle_bert()
    2e-05 * (cosine(0.1, to=1, start=0.1) >> cosine(to=1e-05))
    """
    return peak * one_cycle(pct_start, div)


@recipe
def one_cycle_vit(peak: float = 1e-5, pct_start: Any = 0.3, div: float = 25) -> Schedule:
    """For a vision transformer on a vision task: one-cycle, peak 1e-5, a rise of 30%.

    Source: a guide's table, whose peak of 1e-4 is put right here: a CLIP ViT-B/16 tuned with AdamW is best at
    3e-6 to 1e-5, and 1e-4 ruins it (DomainNet 95.0 to 46.7, FMoW 70.1 to 34.6).
    For: a peak that pretrained transformers bear in all their layers.
    Use: with one rate for all layers.
    Avoid: together with layer-wise decay: rates of 1e-3 and more are right there, as in MAE's recipe (decay
    0.65).

    >>> one_cycle_vit()
    1e-05 * (cosine(0.3, to=1, start=0.04) >> cosine(to=4e-06))
    """
    return peak * one_cycle(pct_start, div)
