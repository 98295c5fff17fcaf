"""docs/storage.md says of tables, keys and bounds what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from tq import limits
from tq.limits import MIB
from tq.store import keys, lmdb_store, store
from tq.store.tables import Table

PAGE = (Path(__file__).parents[3] / "docs" / "storage.md").read_text("utf-8")
ROW = re.compile(r"^\| ([A-Z]+) +\| (.+?) +\| .+ \|$", re.MULTILINE)


def rows(text: str | None) -> dict[str, str]:
    assert text is not None
    return dict(ROW.findall(text))


def test_the_tables_and_their_keys() -> None:
    assert list(rows(PAGE)) == [table.name for table in Table]
    assert rows(PAGE) == rows(keys.__doc__)


def test_the_bounds() -> None:
    for text in (
        f"`CHECKPOINT_DIRTY_BYTES_MAX` ({limits.CHECKPOINT_DIRTY_BYTES_MAX // MIB} MiB)",
        f"`MAP_HEADROOM_BYTES` ({limits.MAP_HEADROOM_BYTES // MIB} MiB)",
        f"begins with {limits.MAP_BYTES_INITIAL // MIB} MiB",
        f"{lmdb_store.MAP_GROWTH_BYTES_MAX >> 30} GiB at most at once",
        f"`[storage] checkpoint_ms` ({limits.CHECKPOINT_MS_DEFAULT} ms)",
        f"in number ({store.READERS_MAX}) and in time ({store.READER_LIMIT_MS_DEFAULT // 1000} s",
        f"at most {store.KEY_BYTES_MAX} bytes",
        f"hash of {keys.HASH_BYTES} bytes",
        f"a name above {keys.NAME_PLAIN_BYTES_MAX} bytes",
    ):
        assert text in PAGE.replace("\n", " "), text
