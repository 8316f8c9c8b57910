"""Calls: how a call of an application gets there and its answer back, over HTTP or a socket that its worker holds.

`client.py` chooses the way: `post.py` for plain HTTP, over connections that `opening.py` opens few at a time,
`lanes.py` over TLS, `connected.py` for workers that connect; `reach.py` says which addresses may be called, and in what
words a call fails. May touch: `bus`, `checkpoint`.
"""
