"""Limits: how many runs of a function may start or run. Frozen values, checked when the function is declared.

Each option means what it means in the Inngest SDKs (docs/limits.md compares them). Keys are CEL expressions over
`event`: each value of a key has a limit of its own, and a missing field counts as the value null.
"""
