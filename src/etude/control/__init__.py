"""The driver, the only stateful object, and the controllers that it asks after each reading."""
