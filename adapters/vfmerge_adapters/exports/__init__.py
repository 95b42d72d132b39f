"""Merged models for the tools that people use today. Each module is one kind of `vfmerge export`."""
