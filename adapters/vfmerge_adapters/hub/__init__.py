"""Models in the format of the Hugging Face hub, from a local folder or by their id: what several adapters share."""
