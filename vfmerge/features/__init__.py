"""Parents that are known by their features: what a picture and its cells look like to them, learnt by a light head."""
