"""`bus dev`: an embedded server, a worker that new code restarts, and the site, in one command.

May touch: the site.
"""
