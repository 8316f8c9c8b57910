"""The commands about what there is: looking, following, acting, checking. Each is one function, announced in pyproject.

May touch: all of checkpoint, and bus. A command only says what the room below it does.
"""
