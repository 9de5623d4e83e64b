"""Keras: the configurations of its learning rate schedules and of the optimizers that hold them."""
