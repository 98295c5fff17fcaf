"""Judges of a run: each reads what was seen from the outside and says what was broken."""
