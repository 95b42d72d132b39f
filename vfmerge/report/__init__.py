"""The report of a run and the comparison of several: what a person reads, from the files that a run leaves."""
