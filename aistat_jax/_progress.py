"""How does long work show that it goes on? A bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

from typing import Any


def progress_bar(items: Any, what: str, total: int | None = None) -> Any:
    """A tqdm bar over items, or over `total` steps where items are None, after half a second."""
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, disable=None, leave=False, delay=0.5)
