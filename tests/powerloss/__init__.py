"""Power loss of a real node: its system calls are recorded, the disk is rebuilt as of each of them, and started from.

    recorded.py   the process that is recorded: a real store and journal, the broker on them, seeded work
    strace.py     records it with strace                         both give the same list of calls
    preload.py    records it with a library of our own, preload.c
    calls.py      what was recorded
    platter.py    what a disk may hold when the power goes in the middle of those calls
    restart.py    starts a node from that, brings all work to its end, and judges
    run.py        all of it; __main__.py is the long form, test_powerloss.py the short one

What a process does that does not go through these system calls is not seen: the store never writes through its map,
and the one file that is written so, LMDB's table of readers, means nothing after a restart.
"""
