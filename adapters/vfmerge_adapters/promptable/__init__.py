"""Parents that make masks of prompts: what their adapters share, whichever library they are from."""
