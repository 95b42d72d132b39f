"""vfmerge's built-in adapters: ordinary plug-ins, one model family each, found through their entry points."""

import vfmerge as vfmerge  # before any module here: it may call one (vfmerge.bridge), which must not be half imported
