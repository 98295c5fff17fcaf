"""The data directory of a node that is rebuilt: what was there is put aside, and another identity takes its place.

Theory
- Nothing is removed. What was there goes to ``lost-N`` inside the data directory: a rename always works there, and takes no
  room, even if the directory is a disk of its own.
- **The new identity is written before anything moves**, in the place of the old one by one rename, after a copy of that. From
  then on no broker starts on the directory (``identity.py``) until the cluster has admitted it. The other way round, a stop
  in between would leave a formed identity without its log: the very node that forgot its votes.
- So a stop at any point is made good by the same call again. The incarnation stays the same, and the cluster answers the same.
"""

from __future__ import annotations

import re

from tq.errors import ConfigError
from tq.raft import identity
from tq.raft.segments import DIRECTORY as JOURNAL_DIRECTORY
from tq.world import LOCK_NAME, Disk, Random

_ASIDE = re.compile(r"lost-([0-9]+)")


def is_done(disk: Disk, node_id: str) -> bool:
    """Whether the directory is rebuilt, and no broker has been started on it since.

    Raises:
        ConfigError: it is another node's. OSError.
    """
    record = identity.peek(disk)
    if record is not None and record.node_id != node_id:
        raise ConfigError(
            f'node.id = "{node_id}", but the data directory belongs to "{record.node_id}": give the file of that node'
        )
    return record is not None and record.joins and record.is_formed and not disk.exists(JOURNAL_DIRECTORY)


def begin(disk: Disk, random: Random, node_id: str) -> tuple[bytes, str | None]:
    """Put aside what is there. Returns the new incarnation, and the directory below the data directory that has the old
    files, if there were any. Raises OSError."""
    record = identity.peek(disk)
    is_begun = record is not None and record.joins and not record.is_formed
    numbers = [int(found[1]) for name in disk.list() if (found := _ASIDE.fullmatch(name))]
    number = max(numbers, default=0) + (0 if is_begun and numbers else 1)
    aside = f"lost-{number}"
    if _to_move(disk) or (not is_begun and disk.exists(identity.FILE_NAME)):
        disk.make_directory(aside)
        disk.sync_directory()
        if not is_begun:
            _copy(disk, identity.FILE_NAME, f"{aside}/{identity.FILE_NAME}")
            disk.sync_directory(aside)
    incarnation = identity.begin_joining(disk, random, node_id)
    for name in _to_move(disk):
        place = f"{aside}/{name}"
        while disk.exists(place):
            place += "~"
        disk.rename(name, place)
    if disk.exists(aside):
        disk.sync_directory(aside)
    disk.sync_directory()
    return incarnation, aside if disk.exists(aside) else None


def finish(disk: Disk, cluster_id: bytes, members: dict[str, bytes], admitted_index: int) -> None:
    """The cluster has admitted it: a broker may start. Raises OSError."""
    identity.finish_joining(disk, cluster_id=cluster_id, members=members, admitted_index=admitted_index)


def _to_move(disk: Disk) -> list[str]:
    stays = {LOCK_NAME, identity.FILE_NAME, identity.TEMPORARY_NAME}
    return [name for name in disk.list() if name not in stays and not _ASIDE.fullmatch(name)]


def _copy(disk: Disk, old: str, new: str) -> None:
    if not disk.exists(old):
        return
    source, copy = disk.open(old), disk.open(new, create=True)
    try:
        copy.append(source.read(0, identity.FILE_BYTES_MAX))
        copy.sync()
    finally:
        source.close()
        copy.close()
