"""Types as users have them, in a module that postpones its annotations."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs

if TYPE_CHECKING:
    from tests.unit.app.nowhere import Hidden  # type: ignore[import-not-found]

T = TypeVar("T")
UserId = NewType("UserId", int)
Email = Annotated[str, "an address"]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    tags: list[str] = dataclasses.field(default_factory=list)


@attrs.frozen
class Order:
    id: UUID
    items: list[Item]
    at: datetime
    colour: Colour = Colour.RED
    parent: Order | None = None


@attrs.define
class Node:
    value: int
    left: Node | None = None
    right: Node | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    rows: list[T]
    total: int = dataclasses.field(init=False, default=0)


class Where(TypedDict):
    city: str
    zip: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Cat:
    lives: int


@dataclasses.dataclass
class Dog:
    bark: str
    lives: int = 1


@dataclasses.dataclass
class Kitten(Cat):
    age: int = 0


MOMENT = datetime(2026, 11, 26, 12, 30, 15, 250_000, tzinfo=UTC)
EAST = datetime(2026, 11, 26, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
ORDER = Order(UUID(int=7), [Item("tea", Decimal("1.10"), ["hot"]), Item("mug", Decimal("5"))], MOMENT, Colour.GREEN)

ROUND_TRIPS: list[tuple[Any, Any]] = [
    (str, "ü"), (int, 2**80), (int, True), (float, 1.5), (float, 3), (bool, False), (None, None), (Any, {"a": [1, None]}),
    (object, "x"), (str | None, None), (str | None, "x"), (int | str, 5), (int | str, "5"), (Literal["a", "b"], "a"),
    (list[int], [1, 2]), (list[Any], [1, "a", [None]]), (list, [1]), (dict, {"a": 1}), (dict[str, Any], {"a": {"b": 1}}),
    (dict[str, list[int]], {"a": [1]}), (tuple[int, str], (1, "a")), (tuple[int, ...], (1, 2, 3)), (tuple, (1, "a")), (tuple[()], ()),
    (list[tuple[int, Item]], [(1, Item("x", Decimal(2)))]), (dict[UUID, int], {UUID(int=1): 2}), (dict[Colour, int], {Colour.RED: 1}),
    (bytes, b"\x00\xff"), (list[bytes], [b"", b"a"]), (UUID, UUID(int=9)), (Decimal, Decimal("1.10")), (Path, Path("/a/b")),
    (datetime, MOMENT), (datetime, EAST), (date, date(2026, 1, 2)), (time, time(1, 2, 3)), (timedelta, timedelta(days=3, microseconds=7)),
    (Colour, Colour.RED), (Level, Level.HIGH), (list[Colour], [Colour.RED]), (UserId, 5), (Email, "a@example.org"),
    (Item, Item("a", Decimal(1))), (Order, ORDER), (Order, Order(UUID(int=8), [], EAST, parent=ORDER)), (Order | None, None), (Order | None, ORDER),
    (Node, Node(1, Node(2), Node(3, Node(4)))), (Page[Item], Page(rows=[Item("a", Decimal(1))])), (Page[int], Page(rows=[1])),
    (Where, {"city": "Oslo"}), (Where, {"city": "Oslo", "zip": 150}), (Point, Point(1, 2)), (list[Point], [Point(3)]),
    (Cat | Dog, Dog("woof")), (Cat | Dog, Cat(9)), (Dog | Cat | None, Cat(1)), (Item | str, "x"), (Item | list[int], [1]), (int | list[Item], [Item("a", Decimal(1))]),
    (UUID | int, UUID(int=1)), (UUID | int, 5), (datetime | None, MOMENT), (Literal[1, "a"] | None, "a"),
    (list[Cat | Dog], [Cat(1), Dog("w", 2)]), (dict[str, Order | None], {"a": None, "b": ORDER}),
]  # fmt: skip
"""(type, value)"""


def hidden(a: int, b: Hidden) -> Hidden: ...
