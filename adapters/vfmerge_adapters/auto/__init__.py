"""Merged models as models of `transformers`: what its `AutoConfig` and `AutoModel` find."""
