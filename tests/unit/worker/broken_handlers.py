"""A module that a worker could import, and its children cannot."""

raise RuntimeError("only the first process may import this")
