"""Drills: they harm the running suite, and compare its rows with those of an undisturbed run.

`harms.py` has the harms, `suite.py` the suite that they harm, `rows.py` the comparison of rows.
"""
