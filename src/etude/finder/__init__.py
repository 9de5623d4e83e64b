"""The learning-rate finder: the range test that leaves no trace, its rules, and the line scan beside it."""
