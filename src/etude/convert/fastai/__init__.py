"""fastai: its fit calls in Python source."""
