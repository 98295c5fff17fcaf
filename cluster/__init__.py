"""Whole clusters on this machine, for people who want to see one work."""
