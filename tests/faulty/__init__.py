"""Real brokers on machines that are out of order: see ``machine.py``."""
