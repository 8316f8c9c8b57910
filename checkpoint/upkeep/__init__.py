"""Upkeep: what is dropped because nobody needs it, what is mended because it lost its holder, what is audited.

May touch: `bus`, and every other room of the checkpoint but `actions`.
"""
