"""DeepSpeed: the blocks of its configuration."""
