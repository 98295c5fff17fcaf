"""Draw the states of a task into docs/semantics.md, from the table that the machine uses: ``python docs/draw_states.py``."""

from __future__ import annotations

from pathlib import Path

from tq.machine.states import State
from tq.machine.task import TRANSITIONS

PAGE = Path(__file__).parent / "semantics.md"
BEGIN = "<!-- drawn by docs/draw_states.py -->\n"
END = "<!-- end of the drawing -->\n"


def picture() -> str:
    """A Mermaid diagram and the same as a table."""
    edges: dict[tuple[str, str], list[str]] = {}
    rows = []
    for (old, event), targets in TRANSITIONS.items():
        names = sorted(map(_name, targets))
        rows.append(f"| {_name(old)} | {event.value} | {', '.join(names)} |")
        for new in names:
            edges.setdefault((_name(old), new), []).append(event.value)
    lines = [f"    {_node(old)} --> {_node(new)}: {' · '.join(events)}" for (old, new), events in edges.items()]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])
    return diagram + "\n\n| from | event | to |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def drawn(text: str) -> str:
    """The page with the picture as it should be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + picture() + END + after


def _name(state: State | None) -> str:
    return "–" if state is None else state.name.lower()


def _node(name: str) -> str:
    return "[*]" if name == "–" else name


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
