"""The schedule language and the equation: plain values and pure functions, on the standard library alone."""
