"""The commands about Redis itself: whether it is fit, whether what is in it is right, how to look into it raw.

May touch: what checkpoint/cli may, and how it prints.
"""
