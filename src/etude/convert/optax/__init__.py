"""optax: calls of its schedules and optimizers in Python source."""
