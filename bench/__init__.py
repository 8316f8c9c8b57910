"""Benchmarks: each prints one table; both sides of a ratio come from one run."""
