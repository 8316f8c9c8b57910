"""Registration: an application behind HTTP has its functions registered. All are taken in, or none.

`asked.py` reads what it asks, `refusals.py` says what is not taken, `take_in.py` takes the rest, and `replaced.py` lets
go of what was at its address before.
"""
