"""The battery over one part, in words for its author: `python -m bench check-method NAME`."""
