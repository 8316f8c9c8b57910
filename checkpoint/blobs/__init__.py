"""Large results in the store of blobs: written before what refers to them, read before they are used.

May touch: `bus`.
"""
