"""Data sets: one interface (`source`), the built-in kinds, and the decoding of pictures and masks they share."""
