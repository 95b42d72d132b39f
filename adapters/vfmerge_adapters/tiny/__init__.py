"""The tiny parents of the shapes world, and the scripts that trained them from a seed."""
