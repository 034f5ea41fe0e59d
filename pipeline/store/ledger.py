"""The ledger: one immutable JSON per finished unit of work, keyed by all that went into it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipeline.store.addresses import explained
from pipeline.store.location import Store


def digest(*parts: Any) -> str:
    """16 hex digits that change when any part changes; parts are JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ledger:
    """What is done in one stage.

    Entries are written after the unit's output has been written and read back, so an entry means: this exists.
    """

    store: Store
    stage: str

    def _name(self, unit: str, key: str) -> str:
        return f"work/ledger/{self.stage}/{unit}-{key}.json"

    def find(self, unit: str, key: str) -> dict[str, Any] | None:
        """The entry of a unit whose inputs hash to `key`, or `None`."""
        entry = self.store.read_json(self._name(unit, key))
        return entry if isinstance(entry, dict) else None

    def record(self, unit: str, key: str, result: dict[str, Any], status: str = "done") -> None:
        """Write down what became of a unit, `status` if it is not done. A repeat writes the same bytes."""
        self.store.write_json({"unit": unit, "key": key, "status": status, "result": result}, self._name(unit, key))

    def entries(self, folder: str = "") -> list[dict[str, Any]]:
        """All entries of the stage whose unit lies in a folder (``no2/..``), sorted by unit and key."""
        fs, root = self.store.fs, self.store.path(f"work/ledger/{self.stage}/{folder}".rstrip("/"))
        if not fs.isdir(root):
            return []
        with explained(self.store.url):
            raw = fs.cat([path for path in fs.find(root) if path.endswith(".json")])
        found = [json.loads(text) for text in (raw.values() if isinstance(raw, dict) else [raw])]
        return sorted(found, key=lambda entry: (entry["unit"], entry["key"]))

    def forget(self, unit: str, key: str) -> None:
        """Remove an entry, so that the unit is done again."""
        self.store.remove(self._name(unit, key))
