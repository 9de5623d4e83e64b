"""timm: the arguments of its training script."""
