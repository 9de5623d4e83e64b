"""Python source that makes a schedule of torch or transformers: read, never run."""
