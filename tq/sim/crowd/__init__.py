"""Clients and workers at random, on simulated brokers: they speak the protocol, and write down what they asked and heard.

Each actor has a connection that may vanish at any moment, and goes on with another one as a real client does: what
carries ids is sent again, a claim keeps its number. Where there are several nodes, the next connection is to any of them,
and some leave a node that answers only errors, or nothing in time. Time in the history is a count of what happened in the run, so
"before" means before. All chance comes from the run's seed.
"""
