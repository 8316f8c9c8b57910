"""The checkpoint: what is recorded of runs, and the scripts that record it, each with one file that calls it."""
