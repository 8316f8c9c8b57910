"""Applications on Stepstream; each runs as a test."""
