"""The commands, one file each: a name and its options. Their work is elsewhere; they import it when they run."""
