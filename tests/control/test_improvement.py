"""Which way a metric gets better, by its name."""

import pytest

from etude.control.improvement import greater_is_better

GREATER = """
acc1 acc5 valAccuracy f1score bleu4 sacrebleu rouge rouge_l rouge-2 bertscore scores objective/scores top10
top_5 hit@1 hits@10 rocauc prauc ap cosine_ap AP50 mAP50 reciprocal_rank kendall_tau neg_loss
neg_mean_squared_error negative_mse r_squared explained_variance log_likelihood psnr ssim jaccard mean_io_u
specificity sensitivity win_rate success_rate episode_return ep_rew_mean r2 ndcg mcc spearmanr auc rouge1
eval_accuracy f1_macro pass@1 mIoU roc_auc
"""
SMALLER = """
fid_score crps_score interval_score anomaly_score toxicity_score hallucination_score reward_std rewards/std
rewards/rejected dice_distance score_variance perplexity wer cer bits_per_byte mse error_rate brier_score
log_loss eval_loss neg_log_likelihood nll grad_norm kl entropy f1_error mae
"""


@pytest.mark.parametrize(("names", "greater"), [(GREATER, True), (SMALLER, False)])
def test_the_direction_that_a_name_says(names, greater):
    assert [name for name in names.split() if greater_is_better(name) != greater] == []
