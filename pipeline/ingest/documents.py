"""Products that become one table or file: read, join what several files say, write, account for every file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from pipeline.core.errors import InputError
from pipeline.ingest.contract import USED, Granule, Outcome, Rules, check_counts
from pipeline.store.cubes import write_cube
from pipeline.store.location import Store


@dataclass(frozen=True)
class Document:
    """What one file becomes.

    Parameters
    ----------
    path : in the store; its suffix says the format (parquet, csv, geojson, zarr).
    content : a table, a text or a Dataset.
    attrs : where it is from and what was assumed; kept with it.
    counts : of records, as in `Outcome`.
    unique : columns that name a row; two files of one run may not both have it.
    grows : whether rows of earlier runs that the new files do not name stay.
    """

    path: str
    content: pd.DataFrame | str | xr.Dataset
    attrs: Mapping[str, Any]
    counts: Mapping[str, int]
    unique: tuple[str, ...] = field(default=())
    grows: bool = False


class DocumentReader(Protocol):
    """A reader of files that become one table or file.

    `read` raises `Rejected` when the file is not the product or holds nothing usable.
    """

    @property
    def rules(self) -> Rules:
        """Default rules."""

    def read(self, path: str, rules: Rules) -> Document:
        """Read one local file."""


def outcome_of(document: Document) -> Outcome:
    """The ledger's view of a document."""
    return Outcome(USED, check_counts(document.counts), facts={"target": document.path})


def write_documents(
    store: Store, parts: Sequence[tuple[Granule, Document]], check: Callable[[str], None] | None = None
) -> list[str]:
    """Write documents, joining tables that go to the same place, in order of their files' addresses.

    Parameters
    ----------
    check : raises where a path must not be written.

    Returns
    -------
    The paths written.

    Raises
    ------
    InputError : two files for one place that cannot be joined.
    """
    by_path: dict[str, list[tuple[Granule, Document]]] = {}
    for granule, document in sorted(parts, key=lambda part: part[0].address):
        by_path.setdefault(document.path, []).append((granule, document))
    for path, group in by_path.items():
        if check:
            check(path)
        content = _with_earlier(store, path, group[0][1], _joined(path, group))
        if path.startswith("inputs/point_sources/") and isinstance(content, pd.DataFrame):
            check_kinds(store, path, content)
        _write(store, path, content, group[0][1].attrs)
    return sorted(by_path)


def _with_earlier(
    store: Store, path: str, document: Document, content: pd.DataFrame | str | xr.Dataset
) -> pd.DataFrame | str | xr.Dataset:
    """The new rows, and those of the table that is there which they do not replace."""
    if not document.grows or not isinstance(content, pd.DataFrame) or not store.exists(path):
        return content
    raw = io.BytesIO(store.read_bytes(path))
    held = pd.read_csv(raw, dtype={"region": str}) if path.endswith(".csv") else pd.read_parquet(raw)
    unique = list(document.unique)
    joined = pd.concat([held[content.columns], content.astype({"region": str})], ignore_index=True)
    return joined.drop_duplicates(unique, keep="last").sort_values(unique, ignore_index=True)


def check_kinds(store: Store, path: str, content: pd.DataFrame) -> None:
    """Refuse plants of a kind that another source in the store has too: they would be counted twice.

    Raises
    ------
    InputError : there is one.
    """
    folder, name = path.rsplit("/", 1)
    for other in store.names(folder):
        if other == name or not other.endswith(".parquet"):
            continue
        table = pq.read_table(io.BytesIO(store.read_bytes(folder, other)), columns=["kind"])
        if shared := sorted(_spelt_out(table["kind"].to_pylist()) & _spelt_out(content["kind"])):
            raise InputError(
                f"{other} holds {', '.join(shared)} already, and {name} would too",
                "one source for each kind of plant",
                f"remove {folder}/{other}, or leave {name} out",
            )


def _spelt_out(kinds: Iterable[str]) -> set[str]:
    """Kinds with ``fossil`` (power plants whatever they burn) as the fuels it stands for."""
    return {part for kind in kinds for part in (("coal", "gas", "oil") if kind == "fossil" else (kind,))}


def _joined(path: str, group: Sequence[tuple[Granule, Document]]) -> pd.DataFrame | str | xr.Dataset:
    contents = [document.content for _, document in group]
    if len(contents) == 1:
        return contents[0]
    names = ", ".join(granule.name for granule, _ in group)
    tables = [content for content in contents if isinstance(content, pd.DataFrame)]
    unique = list(group[0][1].unique)
    if len(tables) != len(contents) or not unique:
        raise InputError(f"{names} all make {path}", "one file", "name the one you want with --from")
    joined = pd.concat(tables, ignore_index=True)
    twice = joined.duplicated(unique)
    if twice.any():
        first = joined.loc[twice.idxmax(), unique].to_dict()
        raise InputError(f"{names} both hold {first}", "each record in one file", "leave one of them out")
    return joined.sort_values(unique, ignore_index=True)


def _write(store: Store, path: str, content: pd.DataFrame | str | xr.Dataset, attrs: Mapping[str, Any]) -> None:
    if isinstance(content, xr.Dataset):
        write_cube(store, path, content.assign_attrs(attrs), {"time": 1})
        return
    if isinstance(content, str):
        store.write_bytes(content.encode(), path)
        return
    if path.endswith(".csv"):
        store.write_bytes(content.to_csv(index=False).encode(), path)
        return
    table = pa.Table.from_pandas(content, preserve_index=False)
    kept = {k: v for k, v in (table.schema.metadata or {}).items() if k == b"pandas"}
    table = table.replace_schema_metadata({**kept, **{k.encode(): str(v).encode() for k, v in attrs.items()}})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.write_bytes(buffer.getvalue(), path)
