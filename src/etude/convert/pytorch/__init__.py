"""PyTorch: its schedulers, as objects and as calls in source."""
