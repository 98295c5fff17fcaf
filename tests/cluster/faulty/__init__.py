"""A broker on a machine that is out of order, for tests of real processes: see ``machine.py``."""
