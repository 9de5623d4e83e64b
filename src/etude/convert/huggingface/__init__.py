"""Hugging Face transformers: its curves, and the arguments that ask for them."""
