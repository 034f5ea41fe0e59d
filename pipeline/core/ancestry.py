"""Which inventory data descend from, by recorded ancestry and by name."""

from __future__ import annotations

import re
from collections.abc import Iterable

INVENTORIES = ("meic", "ceads", "carbon_monitor", "edgar", "ceds", "gridfed", "graced", "odiac", "abacas")
"""Inventories that are looked for by name wherever data say where they are from."""


def split_names(text: object) -> list[str]:
    """Names in a list or in a text, parted by commas or blanks, in lower case."""
    parts: Iterable[object] = text.replace(",", " ").split() if isinstance(text, str) else text or ()  # type: ignore[assignment]
    return [str(part).lower() for part in parts]


def related(name: str, ancestry: Iterable[str]) -> list[str]:
    """Recorded ancestors that are this inventory or a version of it (`meic` and `meic_v14`)."""
    name = name.lower()
    return sorted(a for a in ancestry if a == name or a.startswith(f"{name}_") or name.startswith(f"{a}_"))


def named_in(text: str, names: Iterable[str] = INVENTORIES) -> frozenset[str]:
    """Inventories that a text names as whole words, however they are joined: ``MEIC v1.4``, ``carbon-monitor``."""
    words = f"_{re.sub(r'[^a-z0-9]+', '_', text.lower())}_"
    return frozenset(name for name in names if f"_{name.lower()}_" in words)
