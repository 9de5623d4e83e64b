"""Recipes: the schedules that the field knows by name, each one function that writes it in the words.

A recipe's defaults are those of the library or paper that it is known from; levels are ratios of the peak, so
`2e-5 * cosine_with_warmup()` is a schedule. A text keeps the words that a recipe stands for, not its name.
"""

from etude.core.named.cycles import exp_range as exp_range
from etude.core.named.cycles import one_cycle as one_cycle
from etude.core.named.cycles import one_cycle_momentum as one_cycle_momentum
from etude.core.named.cycles import slanted_triangular as slanted_triangular
from etude.core.named.cycles import triangular as triangular
from etude.core.named.cycles import triangular2 as triangular2
from etude.core.named.decays import constant as constant
from etude.core.named.decays import constant_with_warmup as constant_with_warmup
from etude.core.named.decays import cosine_with_warmup as cosine_with_warmup
from etude.core.named.decays import exponential as exponential
from etude.core.named.decays import inverse_sqrt as inverse_sqrt
from etude.core.named.decays import linear_to_zero as linear_to_zero
from etude.core.named.decays import linear_with_warmup as linear_with_warmup
from etude.core.named.decays import polynomial as polynomial
from etude.core.named.decays import rex_with_warmup as rex_with_warmup
from etude.core.named.plateaus import flat_cosine as flat_cosine
from etude.core.named.plateaus import trapezoid as trapezoid
from etude.core.named.plateaus import tri_stage as tri_stage
from etude.core.named.plateaus import wsd as wsd
from etude.core.named.presets import embedding_training as embedding_training
from etude.core.named.presets import llm_pretraining as llm_pretraining
from etude.core.named.presets import lora_finetuning as lora_finetuning
from etude.core.named.presets import one_cycle_bert as one_cycle_bert
from etude.core.named.presets import one_cycle_new_domain as one_cycle_new_domain
from etude.core.named.presets import one_cycle_similar_domain as one_cycle_similar_domain
from etude.core.named.presets import one_cycle_vit as one_cycle_vit
from etude.core.named.presets import preference_tuning as preference_tuning
from etude.core.named.presets import supervised_finetuning as supervised_finetuning
from etude.core.named.recipe import NAMED as NAMED
from etude.core.named.restarts import cosine_with_restarts as cosine_with_restarts
from etude.core.named.restarts import oscillating_cosine as oscillating_cosine
from etude.core.named.restarts import sgdr as sgdr
from etude.core.named.scaling import noam as noam
from etude.core.named.scaling import temperature as temperature
from etude.core.named.stairs import multi_step as multi_step
from etude.core.named.stairs import steps as steps
from etude.core.named.warmups import untuned_warmup as untuned_warmup
