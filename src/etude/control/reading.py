"""What is read of every update, before it is made, by one name in every loop that étude knows."""

READINGS = ("train_loss", "grad_norm")
"""The mean loss of the update over all processes, and the norm of its gradients before clipping."""
