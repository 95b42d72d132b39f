"""vfmerge's built-in adapters: ordinary plug-ins, one model family each, found through their entry points."""
