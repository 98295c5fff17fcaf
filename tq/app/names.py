"""What a task is called when nobody says it: as whoever imports its module would call it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MAINS: Final = ("__main__", "__mp_main__")


def name_of(function: Callable[..., Any]) -> str:
    """``module.function``. Raises AttributeError for what has no name."""
    module = function.__module__
    if module in MAINS:
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        module = module_name(module, None if spec is None else spec.name, getattr(main, "__file__", None))
    return f"{module}.{function.__qualname__}"


def module_name(module: str, spec_name: str | None, file: str | None) -> str:
    """What the program that runs as ``__main__`` is called by those who import it.

    ``python -m shop.mail`` knows it; of ``python shop/mail.py`` it is the path through all folders that are packages. A
    session without a file has no other name.
    """
    if spec_name is not None and spec_name not in MAINS:
        return spec_name.removesuffix(".__main__") if spec_name.endswith(".__main__") else spec_name
    if file is None:
        return module
    path = Path(file).resolve()
    parts = [path.stem]
    for folder in path.parents:
        if not (folder / "__init__.py").exists():
            break
        parts.insert(0, folder.name)
    return ".".join(parts)
