"""`bus dev`: an embedded server, a worker that restarts when code changes, and the site, in one command.

May touch: the site.
"""
