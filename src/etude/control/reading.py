"""What is read of every update, before it is made, by one name in every loop that étude knows."""

READINGS = ("train_loss", "grad_norm")
"""The mean loss of the update over all processes, and the norm of its gradients before clipping."""
SHARE = "share"
"""What part of a whole update it is, where it is less: the examples of the last batch of an epoch."""
