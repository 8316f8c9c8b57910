"""CEL: what is known of an expression beside its value: how much work it is, and which numbers it may be given.

May touch: errors. The CEL package itself is known to `expression` alone.
"""
