"""`vfmerge predict`: what it is asked, about which pictures, how a model answers, and what is written of that."""
