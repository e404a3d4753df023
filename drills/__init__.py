"""Drills: harm done to the running suite, and whether its rows come out as if nothing had happened.

`harms.py` is what is done, `suite.py` the suite that it is done to, `rows.py` how rows are told to be the same.
"""
