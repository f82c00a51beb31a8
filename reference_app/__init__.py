"""The reference application: a small, real web application that keeps its promises on several instances.

It is what the harness runs by default, as a program of its own: `python -m reference_app`. It registers people,
logs them in and out, keeps their notes in Postgres and their sessions in a shared store. Its known faults are
switched on from `known_bad` and nowhere else. Must not: know that a harness exists.
"""
