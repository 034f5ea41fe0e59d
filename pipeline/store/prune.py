"""What of a store nobody needs any more: replaced versions, unfinished ones, and work that no kept version came from.

Nothing goes that is younger than a stated age, so that readers of a version that was just replaced finish, and runs
that were interrupted are resumed. Inputs, and what ingest keeps of them in ``work/``, are never touched.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.core.errors import UsageError
from pipeline.core.grid import domain_grid
from pipeline.store.location import Store
from pipeline.store.publish import LATEST, PARTIAL, VERSION, product_path, unname, visible
from pipeline.store.verify import LEFTOVERS, MANIFEST

KEEP, AGE = 3, dt.timedelta(days=7)
LEAST_AGE = dt.timedelta(days=1)
"""No build writes nothing for so long: what is younger may be one's that is under way."""
RUNS, MARK = "work/runs", "-under-way.json"
"""Where runs keep their records (`pipeline.flow`), and how the marks among them end."""
_UNIT = re.compile(r"-([0-9a-f]{16})(?=[.-])")
"""The ledger's key in the name of a unit's entry and of its outputs (`pipeline.units`)."""
_PASSING = ("staging", "world")
_NO_UNITS = ("ingest", "weights", "runs", *_PASSING)
"""Folders of ``work/`` that are no stage's: ingest goes on from its sums, and every build looks its weights up."""
Infos = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Item:
    """Something to remove: folders or files by their names in the store, of what kind and why, objects and bytes."""

    kind: str
    names: tuple[str, ...]
    why: str
    objects: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What goes, in the order it is removed in; what stays of the product and why, by version; what else to say.

    `marks` are those of runs that were there when it was made.
    """

    items: tuple[Item, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()


def plan(store: Store, keep: int = KEEP, age: dt.timedelta = AGE, now: dt.datetime | None = None) -> Plan:
    """Look at everything under ``products/`` and ``work/``; nothing is changed.

    Parameters
    ----------
    keep : replaced versions that stay besides the published one, by year or, of partial ones, by what they cover.
    age : how long ago a version must have been replaced, and anything else been written, to go.
    now : the time it is, UTC.

    Raises
    ------
    UsageError : more versions to keep than the pointer names, or an age within which a build may be under way.
    """
    if not 0 <= keep <= KEEP:
        raise UsageError(f"{keep} versions to keep", f"0..{KEEP}: the pointer names no more")
    if age < LEAST_AGE:
        raise UsageError(f"an age of {age}", f"at least {LEAST_AGE.days} day: a build may be writing what is younger")
    now = now or dt.datetime.now(dt.UTC)
    seen = _Seen(store, keep, now - age, now)
    verdicts = {version: seen.verdict(version) for version in sorted(seen.versions)}
    kept = {version: why for version, (goes, why) in verdicts.items() if not goes}
    doomed = [
        _item("version", [product_path(version)], why, seen.versions[version])
        # What no pointer names goes first: on a full disk it makes the room to write the pointer.
        for version, (goes, why) in sorted(verdicts.items(), key=lambda v: v[0] in seen.named)
        if goes
    ]
    units, notes = _units(seen, kept)
    items = (*_leftovers(seen, kept), *units, *doomed, *_records(seen, kept))
    return Plan(items, kept, notes, frozenset(_marks(store)))


def carry_out(store: Store, plan: Plan) -> Iterator[Item]:
    """Remove what a plan says, one after the other as the result is asked for; what was removed.

    What a build or a pointer has taken up since is left alone.
    """
    for item in plan.items:
        begun = _marks(store) - plan.marks if item.kind in ("version", "work") else set()
        if item.kind == "version":
            (path,) = item.names
            version = path.rpartition("/")[2]
            if any(version in mark for mark in begun) or (version in visible(store) and not unname(store, [version])):
                continue
            _remove_version(store, version)
            unname(store, [version])
        elif not begun:
            for name in item.names:
                store.remove(name)
        else:
            continue
        yield item


def _remove_version(store: Store, version: str) -> None:
    # First what a run would go on from, then what a reader opens: who comes now gets a version of its own, or an error,
    # and not holes that look like missing values.
    path = product_path(version)
    store.remove_files([f"{RUNS}/{name}" for name in store.names(RUNS) if _version_of(store, name) == version])
    store.remove_files([f"{path}/{n}" for n in store.files(path) if n == MANIFEST or n.endswith("zarr.json")])
    store.remove(path)


class _Seen:
    """What there is to judge by: listings, pointers and marks."""

    def __init__(self, store: Store, keep: int, before: dt.datetime, now: dt.datetime) -> None:
        self.store, self.keep, self.before, self.now = store, keep, before, now
        pointer, partial = store.read_json(LATEST) or {}, store.read_json(PARTIAL) or {}
        self.current: dict[str, list[int]] = {}
        for year, version in pointer.get("years", {}).items():
            self.current.setdefault(version, []).append(int(year))
        self.previous: dict[str, list[str]] = pointer.get("previous", {})
        self.replaced: dict[str, str] = pointer.get("replaced", {})
        self.partial: dict[str, dict[str, Any]] = partial.get("versions", {})
        self.named = {*self.current, *self.partial, *(v for older in self.previous.values() for v in older)}
        self.products: Infos = store.files("products")
        self.work: Infos = store.files("work")

    @cached_property
    def versions(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """The objects of each version; a folder that is not named like one is nobody's to judge."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {}
        for name, info in self.products.items():
            version, slash, rest = name.partition("/")
            if slash and VERSION.fullmatch(version):
                found.setdefault(version, {})[rest] = info
        return found

    @cached_property
    def under_way(self) -> set[str]:
        """Versions on which a run left its mark not long ago."""
        marks = [name for name in self.work if name.startswith("runs/") and name.endswith(MARK)]
        return {found.group() for name in marks if (found := VERSION.search(name)) and not self.old(self.work[name])}

    def old(self, *infos: Mapping[str, Any]) -> bool:
        """Whether all of these were written before the age began."""
        return all(_written(info, self.now) <= self.before for info in infos)

    def verdict(self, version: str) -> tuple[bool, str]:
        """Whether a version goes, and why or why not."""
        objects = self.versions[version]
        if version in self.current:
            return False, f"published for {', '.join(map(str, sorted(self.current[version])))}"
        if version in self.under_way:
            return False, "a build is under way, or was interrupted not long ago"
        if not self.old(*objects.values()):
            return False, "written not long ago"
        if version in self.partial:
            covering = [self._published(v) for v in self.versions if self._covers(v, version)]
            if len(covering) <= self.keep:
                return False, f"partial, covered by {len(covering)} newer"
            since = min(covering)
        else:
            places = [older.index(version) for older in self.previous.values() if version in older]
            if places and min(places) < self.keep:
                return False, "one of the last before the published one"
            if MANIFEST not in objects:
                return True, "never finished"
            since = self._replaced(version)
        if since > self.before:
            return False, "replaced not long ago"
        return True, f"replaced {(self.now - since).days} days ago" if version in self.named else "nothing names it"

    def _replaced(self, version: str) -> dt.datetime:
        """Since when a version is no year's: as the pointer says, at the latest when that was last written."""
        if version in self.replaced:
            return dt.datetime.fromisoformat(self.replaced[version])
        pointer = self.products.get(LATEST.partition("/")[2])
        return _written(pointer, self.now) if pointer else dt.datetime.min.replace(tzinfo=dt.UTC)

    def _published(self, version: str) -> dt.datetime:
        return _written(self.versions[version][MANIFEST], self.now)

    def _covers(self, newer: str, version: str) -> bool:
        """Whether a newer version that a pointer names has all months of a partial one, in its domain and cubes."""
        has, asked = self._content(newer), self._content(version)
        if newer <= version or MANIFEST not in self.versions[newer] or has is None or asked is None:
            return False
        return has[0] == asked[0] and has[1] >= asked[1] and has[2] >= asked[2]

    def _content(self, version: str) -> tuple[Any, set[tuple[int, int]], set[str]] | None:
        """Domain, months and cubes of a version that a pointer names."""
        said: Mapping[str, Any] = self.partial.get(version, {})
        if version in self.current:
            said = {"domain": "china", "year": self.current[version], "months": range(1, 13)}
        try:
            months = {(year, month) for year in said["year"] for month in said["months"]}
            domain = domain_grid(said["domain"])
        except (KeyError, UsageError):
            return None
        return domain, months, {name.partition("/")[0] for name in self.versions[version] if ".zarr/" in name}


def _leftovers(seen: _Seen, kept: Mapping[str, str]) -> Iterator[Item]:
    """What writers that were killed left: half objects, staging, probes."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, info in seen.work.items():
        parts = name.split("/")
        if parts[0] in _PASSING:
            groups.setdefault("/".join(("work", *parts[:2])), {})[name] = info
        elif parts[0].startswith(".probe-") or name.endswith(LEFTOVERS):
            groups[f"work/{name}"] = {name: info}
    for name, info in seen.products.items():
        if name.endswith(LEFTOVERS) and name.partition("/")[0] in kept:
            groups[f"products/{name}"] = {name: info}
    for name, infos in groups.items():
        if seen.old(*infos.values()):
            yield _item("leftover", [name], "left by a writer that was killed", infos)


def _units(seen: _Seen, kept: Mapping[str, str]) -> tuple[list[Item], tuple[str, ...]]:
    """Units of work that no kept version was made from; or what keeps them all."""
    if seen.under_way:
        return [], ("the work of all units stays: a build is under way, or was interrupted not long ago",)
    used: set[tuple[str, str]] = set()
    for version in kept:
        if MANIFEST in seen.versions[version]:
            units = (seen.store.read_json(product_path(version), "provenance.json") or {}).get("units")
            if units is None:
                return [], (f"the work of all units stays: {version} does not say which of it it was made from",)
            used |= {(stage, key) for stage, keys in units.items() for key in keys.values()}
    items = []
    for (stage, key), names in _by_unit(seen.work).items():
        infos = {name: seen.work[name] for name in names}
        if (stage, key) not in used and seen.old(*infos.values()):
            # The entry goes first: as long as there is one, what it tells of is there.
            entries = sorted(name for name in names if name.startswith("ledger/"))
            outputs = sorted({"/".join(name.split("/")[:2]) for name in names if name not in entries})
            why = f"{stage}: no kept version was made from it"
            items.append(_item("work", [f"work/{name}" for name in (*entries, *outputs)], why, infos))
    return items, ()


def _by_unit(work: Infos) -> dict[tuple[str, str], list[str]]:
    """Names of the objects of each unit, by stage and key: its entry in the ledger and its outputs."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in work:
        stage, _, rest = name.removeprefix("ledger/").partition("/")
        match = _UNIT.search(rest.partition("/")[0])
        if match and stage not in _NO_UNITS and not name.endswith(LEFTOVERS):
            found.setdefault((stage, match.group(1)), []).append(name)
    return found


def _records(seen: _Seen, kept: Mapping[str, str]) -> Iterator[Item]:
    """Records of runs whose version is gone, and marks of runs that died."""
    for name, info in seen.work.items():
        run = name.removeprefix("runs/")
        gone = run != name and (run.endswith(MARK) or _version_of(seen.store, run) not in kept)
        if gone and seen.old(info):
            yield _item("record", [f"work/{name}"], "of a run whose version is gone, or that died", {name: info})


def _version_of(store: Store, run: str) -> str:
    """The version that a file of ``work/runs`` is about, by its name or content."""
    named = VERSION.search(run)
    return named.group() if named else str((store.read_json(RUNS, run) or {}).get("version"))


def _marks(store: Store) -> set[str]:
    return {name for name in store.names(RUNS) if name.endswith(MARK)}


def _item(kind: str, names: Sequence[str], why: str, infos: Infos) -> Item:
    return Item(kind, tuple(names), why, len(infos), sum(int(info.get("size") or 0) for info in infos.values()))


def _written(info: Mapping[str, Any], now: dt.datetime) -> dt.datetime:
    """When an object was written, as the file system says; `now` where it does not, so that it stays."""
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(key)
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.datetime):
            return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        if isinstance(value, (int, float)):
            return dt.datetime.fromtimestamp(value, dt.UTC)
    return now
