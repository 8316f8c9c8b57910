"""Upkeep: drop what nobody needs (retention), give runs a new holder (repair), check every key (audit).

May touch: `bus`, and every other room of the checkpoint but `actions`.
"""
