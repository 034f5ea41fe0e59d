"""Tables as agencies publish them: workbooks and CSV, read as text and numbers, nothing in them executed."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import InputError
from pipeline.ingest.contract import Rejected
from pipeline.ingest.sources import checked_archive

MAX_SHEET_BYTES = 2**30
"""Bytes a workbook may expand to."""


@contextlib.contextmanager
def opened_workbook(path: str) -> Iterator[pd.ExcelFile]:
    """A workbook within bounds: formulas are not computed, links not followed.

    Raises
    ------
    InputError : no workbook, damaged, or one that expands beyond the bounds.
    """
    with open(path, "rb") as file:
        infos = checked_archive(file, path)
        if sum(i.file_size for i in infos) > MAX_SHEET_BYTES:
            raise InputError(f"{path} expands beyond {MAX_SHEET_BYTES} bytes", "a workbook of less")
        _refuse_entities(file, infos, path)
    try:
        with pd.ExcelFile(path, engine="openpyxl", engine_kwargs={"data_only": True, "keep_links": False}) as book:
            yield book
    except (Rejected, InputError):
        raise
    except Exception as error:
        raise InputError(f"the workbook cannot be read ({type(error).__name__}: {error})") from error


def read_sheet(path: str, sheet: str, columns: Sequence[str]) -> pd.DataFrame:
    """One sheet of a workbook, first row as header.

    Raises
    ------
    InputError : no workbook, or one that expands beyond the bounds.
    Rejected : no such sheet or columns: another product.
    """
    with opened_workbook(path) as book:
        names = [str(name) for name in book.sheet_names]
        if sheet not in names:
            raise Rejected(f"the workbook has the sheets {', '.join(names)}, not {sheet!r}")
        return _with_columns(pd.read_excel(book, sheet_name=sheet), columns)


def read_sheets(path: str) -> dict[str, pd.DataFrame]:
    """All sheets of a workbook by name, as cells without a header."""
    with opened_workbook(path) as book:
        return {str(name): pd.read_excel(book, sheet_name=name, header=None) for name in book.sheet_names}


def read_csv(path: str, columns: Sequence[str], **options: Any) -> pd.DataFrame:
    """A CSV table with its header.

    Raises
    ------
    InputError : not text or not a table.
    Rejected : other columns: another product.
    """
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 1))
        if file.read(1) not in (b"\n", b"\r"):
            # A number cut in two is a number too; only the missing end of the line tells.
            raise InputError(
                "the last line has no end, so the table may be cut off",
                "a line break at the end",
                "add it if all is there",
            )
    try:
        table = pd.read_csv(path, low_memory=False, **options)
    except (ValueError, OSError) as error:
        raise InputError(f"not a CSV table ({type(error).__name__}: {error})") from error
    return _with_columns(table, columns)


def _with_columns(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in columns if c not in table.columns]
    if missing:
        seen = ", ".join(map(str, table.columns[:12]))
        raise Rejected(f"the table lacks the columns {', '.join(missing)} (it has {seen})")
    return table


def _refuse_entities(file: Any, infos: Sequence[zipfile.ZipInfo], path: str) -> None:
    # Entities are the one way in which XML of a few bytes becomes gigabytes of text.
    with zipfile.ZipFile(file) as opened:
        for info in infos:
            if info.filename.endswith((".xml", ".rels")):
                try:
                    with opened.open(info) as part:
                        head = part.read(4096)
                except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
                    raise InputError(f"{path}: {info.filename} cannot be unpacked ({error})") from error
                if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
                    raise InputError(f"{path}: {info.filename} declares XML entities", "a workbook without them")


def numbers(column: pd.Series) -> np.ndarray:
    """A column as float64; text such as ``unknown``, ``>0`` or ``not found`` is NaN."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def years(column: pd.Series) -> np.ndarray:
    """The first four-digit year in each entry (``2014``, ``2014-2015``, a date), else NaN."""
    text = column.astype("string").str.extract(r"\b((?:18|19|20)\d\d)", expand=False)
    return pd.to_numeric(text, errors="coerce").to_numpy(dtype=float)


def coordinates(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude from text such as ``31.23, 118.38``; NaN where it is something else."""
    parts = column.astype("string").str.extract(r"^\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*$")
    return numbers(parts[0]), numbers(parts[1])
