"""Tropospheric NO2 of OMI: the daily 0.25 degree grid OMNO2d (HDF-EOS5)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from pipeline.ingest.columns import Observations
from pipeline.ingest.contract import Rejected, Rules
from pipeline.ingest.gridded import horizontal, magic, open_netcdf, refuse_kind
from pipeline.ingest.hdf import attribute, dataset, has, open_hdf5, read
from pipeline.ingest.tropomi import MOLECULES, grid_cells, no2_rules

_FIELD = "HDFEOS/GRIDS/ColumnAmountNO2/Data Fields/ColumnAmountNO2TropCloudScreened"
_SHAPE = (720, 1440)
_NOON = np.timedelta64(6, "h")


@dataclass(frozen=True)
class OmiReader:
    """OMNO2d daily grids; area means (Giovanni CSV) and monthly means are refused, since they are no daily grid."""

    family: str = "no2"
    path: str = "inputs/no2_omi.zarr"
    rules: Rules = field(default_factory=lambda: no2_rules(uncertainty=1.7e-5))

    def read(self, path: str, rules: Rules) -> Observations:
        """The cells of one day over the region; the overpass is taken at 13:30 local, about 6 UTC."""
        name = path.rsplit("/", 1)[-1]
        kind = magic(path)
        if kind == b"\x89HDF":
            return self._hdfeos(path, rules, name)
        if kind[:3] == b"CDF":
            self._refuse_netcdf(path)
        if kind in (b"Titl", b"Time", b"User"):
            raise Rejected("a Giovanni table of area means: a series for one place, from which no grid can be made")
        refuse_kind(path, "HDF-EOS5 (OMNO2d, .he5)")

    def _hdfeos(self, path: str, rules: Rules, name: str) -> Observations:
        with open_hdf5(path) as file:
            if not has(file, _FIELD):
                raise Rejected(f"no {_FIELD.rsplit('/', 1)[-1]} (the file has {', '.join(sorted(file)[:6])})")
            variable = dataset(file, _FIELD)
            unit = attribute(variable, "Units", "units")
            if re.sub(r"\s", "", unit.lower()) not in ("molec/cm2", "molecules/cm^2", "molecules/cm2", "moleculescm-2"):
                raise Rejected(f"the column has units {unit!r}, expected molec/cm2")
            if variable.shape != _SHAPE:
                raise Rejected(f"a grid of {variable.shape}, expected {_SHAPE} (0.25 degree)")
            value = read(variable)
            value[value < -1e29] = np.nan
        day = self._day(name)
        # Rows run from the south; only those of the region are taken.
        lat, lon = -89.875 + 0.25 * np.arange(720), -179.875 + 0.25 * np.arange(1440)
        rows, cols = (lat > 11) & (lat < 61), (lon > 67) & (lon < 142)
        part = value[np.ix_(rows, cols)] / MOLECULES
        # A day has one file; a later production, by its name, replaces it.
        identity, elsewhere = (f"omi {day}", name), value.size - part.size
        source = "OMI OMNO2d, cloud screened"
        return grid_cells(part, lat[rows], lon[cols], day + _NOON, rules, source, identity, elsewhere)

    def _refuse_netcdf(self, path: str) -> NoReturn:
        with open_netcdf(path) as ds:
            axes = horizontal(ds)
            west, east = float(axes["lon"][0]), float(axes["lon"][-1])
            times = ds.sizes.get("time", 1)
        raise Rejected(f"a netCDF of {times} fields over {west:.1f}..{east:.1f} E, not a daily OMNO2d grid (.he5)")

    @staticmethod
    def _day(name: str) -> np.datetime64:
        found = re.search(r"_(\d{4})m(\d\d)(\d\d)", name)
        if not found:
            raise Rejected(f"the name {name!r} has no date as OMNO2d files do (..._2022m0115_...)")
        return np.datetime64(f"{found[1]}-{found[2]}-{found[3]}", "ns")
