"""A photo becomes a plushie, for a credit."""
