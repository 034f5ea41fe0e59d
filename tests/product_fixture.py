"""A complete, small, made-up product version (and the truth it is about), written through the store."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from pipeline.core.chunks import FINE_CHUNK
from pipeline.core.grid import FINE_PER_COARSE, Grid, block_repeat, block_sum
from pipeline.core.labels import label_coord
from pipeline.core.provinces import PROVINCES
from pipeline.core.regions import Regions
from pipeline.core.schema import CONSISTENCY, PRODUCTS, SECTORS
from pipeline.store.cubes import write_cube
from pipeline.store.location import Store

SMALL = Grid.from_bounds(112, 36, 120, 42, 4)
"""24 x 32 coarse cells around Beijing."""
MONTHS = pd.date_range("2022-01-01", periods=3, freq="MS")
VERSION = "20230101T000000Z-0123abcd"
SHARES = np.array([0.44, 0.40, 0.09, 0.07])
CITIES = np.array(
    [
        [39.9, 116.4, 9], [39.1, 117.2, 9], [38.0, 114.5, 8], [37.9, 112.5, 9], [39.6, 118.2, 10], [36.6, 114.5, 7],
        [40.8, 114.9, 4], [40.1, 113.3, 8], [31.2, 121.5, 10], [32.1, 118.8, 8], [31.6, 120.3, 9], [30.3, 120.2, 7],
        [23.1, 113.3, 9], [22.6, 114.1, 7], [29.6, 106.5, 7], [30.7, 104.1, 6], [30.6, 114.3, 8], [34.3, 108.9, 7],
        [36.7, 117.0, 8], [36.1, 120.4, 7], [41.8, 123.4, 8], [45.8, 126.6, 6], [43.8, 87.6, 7], [40.7, 109.9, 8],
        [39.6, 109.8, 9], [38.5, 106.3, 8], [36.1, 103.8, 5], [25.0, 102.7, 5], [26.6, 106.7, 6], [28.2, 112.9, 5],
        [26.1, 119.3, 5], [34.8, 113.7, 8], [31.8, 117.2, 6], [22.8, 108.3, 5], [20.0, 110.3, 3], [43.9, 125.3, 6],
        [29.7, 91.1, 1], [36.6, 101.8, 3], [25.0, 121.5, 6], [24.5, 118.1, 5], [44.3, 86.0, 6], [40.8, 111.7, 7],
    ]
)  # fmt: skip
"""Latitude, longitude and weight of some cities, so that pictures of the fixture look like something."""


def box_regions(grid: Grid, names: Sequence[str] = ("Beijing", "Tianjin", "Hebei", "Shanxi", "Shandong", "Henan")):
    """The grid's box cut into six rectangles named after provinces."""
    west, south, east, north = grid.bounds
    xs, ys = np.linspace(west, east, 4), np.linspace(south, north, 3)
    boxes = [shapely.box(xs[i], ys[j], xs[i + 1], ys[j + 1]) for j in range(2) for i in range(3)]
    known = {p.name: p for p in PROVINCES}
    chosen = [known[n] for n in names]
    return Regions(tuple(p.code for p in chosen), tuple(names), tuple(p.group for p in chosen), tuple(boxes))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A store with one small made-up version and its truth; read it, do not change it."""
    store = Store(str(tmp_path_factory.mktemp("made")))
    return store, write_product(store)


def write_product(
    store: Store,
    grid: Grid = SMALL,
    months: pd.DatetimeIndex = MONTHS,
    regions: Regions | None = None,
    members: int = 50,
    fine: bool = True,
    truth: bool = True,
) -> str:
    """Write inputs/regions.geojson, all cubes of `PRODUCTS`, provenance.json and truth/; gives back the version."""
    rng = np.random.default_rng(4)
    regions = regions or box_regions(grid)
    store.write_bytes(regions.to_geojson().encode(), "inputs/regions.geojson")
    share = regions.fractions(grid)
    inside = share.sum(axis=0) > 0
    true = _true_field(grid, months, rng)
    prior = true * np.exp(0.6 * rng.standard_normal(grid.shape) - 0.18) * 0.95
    z = np.exp(0.25 * rng.standard_normal((1, *true.shape)) - 0.03)
    draws = np.exp(
        0.25 * rng.standard_normal((members, 1, *grid.shape)) + 0.03 * rng.standard_normal((members, 1, 1, 1))
    )
    mean = np.where(inside, true * z[0], np.nan)
    samples = (mean * draws / draws.mean(axis=0)).astype("float32")
    mean = samples.mean(axis=0, dtype="float64")
    coords = {**grid.coords(), "time": months.to_numpy()}
    ds = _emissions(samples, mean, np.where(inside, prior, np.nan), rng).assign_coords(coords)
    _write(store, "emissions_025", _with_cells(ds, grid, share.sum(axis=0)))
    _write(store, "diagnostics_025", _diagnostics(ds["n_no2"].to_numpy()).assign_coords(coords))
    _write_sectors(store, ds, coords)
    members_coord = {"member": np.arange(members, dtype="int16")}
    _write(store, "samples_025", _cube("samples_025", {"co2_emission": samples}).assign_coords(coords | members_coord))
    _write_regions(store, regions, share, samples, months)
    if fine:
        _write_fine(store, grid, ds, months, rng)
    store.write_json(provenance(months), "products", VERSION, "provenance.json")
    if truth:
        _write_truth(store, grid, months, true * (share.sum(axis=0) > 0), rng)
    return VERSION


def provenance(months: pd.DatetimeIndex) -> dict:
    """A run's account of itself."""
    return {
        "version": VERSION,
        "run": "0123abcd",
        "created": "2023-01-01T00:00:00Z",
        "code_version": "0.1.0",
        "regrid_engine": "numpy",
        "settings": {
            "years": sorted({int(m.year) for m in months}),
            "members": 50,
            "note": "<script>alert(1)</script>",
        },
        "inputs": [
            {"name": "era5", "source": "made", "status": "used", "synthetic": True, "ancestry": ["meic"]},
            {"name": "no2_tropomi", "source": "S5P_1.nc", "status": "rejected", "reason": "no <valid> pixel"},
        ],
        "stages": [{"name": "invert", "seconds": 61.5, "units": 3}, {"name": "learn", "seconds": 12.0, "units": 6}],
        "peak_memory_bytes": 2.1e9,
        "ancestry": ["meic"],
        "granules": [{"unit": "S5P_2.nc", "status": "rejected", "reason": "night <all>"}],
        "scores": {"north": {"rows": 2400.0, "r2_log_blocks": 0.61, "r2_log_random": 0.78}},
        "diagnostics": [
            {
                "month": f"{m:%Y-%m}",
                "chi2": 1.02,
                "dofs": 81.4,
                "n_obs": 5400,
                "lifetime": {"north": 3.1},
                "consistency": {
                    "north": dict.fromkeys(CONSISTENCY, 0.91),
                    "south": dict.fromkeys(CONSISTENCY, None),
                    "all": dict.fromkeys(CONSISTENCY, 0.93),
                },
            }
            for m in months
        ],
    }


def write_inventory(store: Store, grid: Grid, months: pd.DatetimeIndex, monthly: np.ndarray, name: str) -> None:
    """`inputs/inventory_<name>.zarr` whose sum over sectors is `monthly` (time, lat, lon), tonnes."""
    seconds = np.array([m.days_in_month * 86400.0 for m in months])[:, None, None]
    flux = monthly * 1000.0 / grid.area / seconds
    ds = xr.Dataset(
        {
            "co2_flux": (
                ("time", "sector", "lat", "lon"),
                flux[:, None] * SHARES[:, None, None],
                {"units": "kg m-2 s-1"},
            )
        },
        coords={**grid.coords(), "time": months.to_numpy(), "sector": label_coord("sector", SECTORS)},
    )
    write_cube(store, f"inputs/inventory_{name}.zarr", ds)


def write_meic_table(store: Store, totals: dict[str, np.ndarray], months: pd.DatetimeIndex) -> None:
    """`inputs/inventory_meic_table.parquet` from monthly totals by region code, tonnes."""
    rows = [
        (m.year, m.month, code, sector, float(series[t] * share))
        for code, series in totals.items()
        for t, m in enumerate(months)
        for sector, share in zip(SECTORS, SHARES, strict=True)
    ]
    buffer = io.BytesIO()
    pd.DataFrame(rows, columns=["year", "month", "region", "sector", "co2_tonnes"]).to_parquet(buffer)
    store.write_bytes(buffer.getvalue(), "inputs/inventory_meic_table.parquet")


def _true_field(grid: Grid, months: pd.DatetimeIndex, rng: np.random.Generator) -> np.ndarray:
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    near = np.zeros(grid.shape)
    for y, x, weight in CITIES:
        distance = np.hypot(lat - y, (lon - x) * np.cos(np.deg2rad(y)))
        near += weight**2 * (np.exp(-((distance / 0.3) ** 2)) + 0.02 * np.exp(-((distance / 1.8) ** 2)))
    field = 2e4 * near * np.exp(0.5 * rng.standard_normal(grid.shape))
    field = np.where((field < 30) | (rng.random(grid.shape) < 0.05), 0.0, field)
    season = 1 + 0.15 * np.cos(2 * np.pi * (months.month.to_numpy() - 1) / 12)
    return season[:, None, None] * field


def _quantiles(values: np.ndarray) -> list[np.ndarray]:
    return [np.quantile(values, q, axis=0, method="weibull") for q in (0.05, 0.95)]


def _emissions(samples: np.ndarray, mean: np.ndarray, prior: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    p05, p95 = _quantiles(samples)
    seen = np.clip(0.2 + 0.5 * np.tanh(mean / 2e5) + 0.1 * rng.standard_normal(mean.shape), 0, 1)
    information = np.where(np.isnan(mean), 0, np.where(seen > 0.35, 3, np.where(seen > 0.15, 2, 1)))
    return _cube(
        "emissions_025",
        {
            "co2_emission": mean,
            "co2_emission_sigma": samples.std(axis=0, ddof=1).astype("float64"),
            "co2_emission_p05": p05,
            "co2_emission_p95": p95,
            "co2_prior": prior,
            "co2_prior_sigma": 0.7 * prior,
            "co2_proxy_prior": prior,
            "averaging_kernel": seen,
            "variance_reduction": seen**2,
            "n_no2": np.where(np.isnan(mean), np.nan, rng.poisson(14, mean.shape)),
            "n_xco2": np.where(np.isnan(mean), np.nan, rng.poisson(0.2, mean.shape)),
            "information": information.astype("int8"),
        },
    )


def _diagnostics(n_no2: np.ndarray) -> xr.Dataset:
    """Statistics around what is expected, missing where nothing was seen."""
    rng = np.random.default_rng(6)
    expected = {"innovation_mean": 0.0, "residual_mean": 0.0, "residual_rms": 0.8, "observation_error_ratio": 0.4}
    values = {
        name: np.where(n_no2 > 0, expected.get(name, 1.0) + 0.2 * rng.standard_normal(n_no2.shape), np.nan)
        for name in CONSISTENCY
    }
    return _cube("diagnostics_025", {k: v.astype("float32") for k, v in values.items()})


def _cube(name: str, values: dict[str, np.ndarray]) -> xr.Dataset:
    schema = PRODUCTS[name]
    data = {k: (schema.variables[k].dims, v, {"units": schema.variables[k].units}) for k, v in values.items()}
    attrs = {"title": f"{name} <b>", "synthetic": "true", "schema_version": 1, "product_version": VERSION}
    return xr.Dataset(data, attrs=attrs)


def _with_cells(ds: xr.Dataset, grid: Grid, china: np.ndarray) -> xr.Dataset:
    return ds.assign(
        china_fraction=(("lat", "lon"), china, {"units": "1"}), cell_area=(("lat", "lon"), grid.area, {"units": "m2"})
    )


def _write(store: Store, name: str, ds: xr.Dataset, chunks: dict[str, int] | None = None) -> None:
    write_cube(store, f"products/{VERSION}/{name}.zarr", ds, {"time": 1, **(chunks or {})})


def _write_sectors(store: Store, ds: xr.Dataset, coords: dict) -> None:
    parts = {k: ds[k].to_numpy()[:, None] * SHARES[:, None, None] for k in ("co2_emission", "co2_emission_sigma")}
    sector = {"sector": label_coord("sector", SECTORS)}
    _write(store, "sectors_025", _cube("sectors_025", parts).assign_coords(coords | sector))


def _write_regions(store: Store, regions: Regions, share: np.ndarray, samples: np.ndarray, months) -> None:
    weights = {code: share[k] for k, code in enumerate(regions.codes)}
    for group in regions.group_names:
        weights[group] = sum(share[k] for k in range(len(regions.codes)) if regions.groups[k] == group)
    weights["CN"] = share[regions.in_cn()].sum(axis=0)
    w = np.stack(list(weights.values()))
    total = np.einsum("mtij,rij->mtr", np.nan_to_num(samples.astype("float64")), w)
    by_sector = total[..., None] * np.append(SHARES, 1.0)
    coords = {
        "time": months.to_numpy(),
        "region": label_coord("region", list(weights)),
        "sector": label_coord("sector", [*SECTORS, "total"]),
    }
    p05, p95 = _quantiles(by_sector)
    values = {"": by_sector.mean(axis=0), "_sigma": by_sector.std(axis=0, ddof=1), "_p05": p05, "_p95": p95}
    _write(store, "regions", _cube("regions", {f"co2_emission{k}": v for k, v in values.items()}).assign_coords(coords))
    member = {"member": np.arange(len(samples), dtype="int16")}
    _write(store, "region_samples", _cube("region_samples", {"co2_emission": by_sector}).assign_coords(coords | member))


def _fine_weights(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    fine = grid.refine()
    lat, lon = np.meshgrid(fine.lat, fine.lon, indexing="ij")
    weights = 0.02 * np.ones(fine.shape, "f4")
    for y, x, weight in CITIES:
        distance = np.hypot(lat - y, (lon - x) * np.cos(np.deg2rad(y)))
        weights += (weight * np.exp(-((distance / 0.08) ** 2))).astype("f4")
    weights *= np.exp(0.8 * rng.standard_normal(fine.shape)).astype("f4")
    return weights / block_repeat(block_sum(weights))


def _write_fine(store: Store, grid: Grid, ds: xr.Dataset, months: pd.DatetimeIndex, rng: np.random.Generator) -> None:
    weights = _fine_weights(grid, rng)
    names = ("co2_emission", "co2_emission_sigma", "co2_emission_p05", "co2_emission_p95")
    values = {k: np.stack([(block_repeat(m) * weights).astype("f4") for m in ds[k].to_numpy()]) for k in names}
    values["information"] = block_repeat(ds["information"].to_numpy())
    coords = {**grid.refine().coords(), "time": months.to_numpy()}
    cube = _cube("emissions_001", values).assign_coords(coords)
    _write(store, "emissions_001", cube, {"lat": FINE_CHUNK[0], "lon": FINE_CHUNK[1]})


def _write_truth(
    store: Store, grid: Grid, months: pd.DatetimeIndex, true: np.ndarray, rng: np.random.Generator
) -> None:
    attrs = {"synthetic": "true", "schema_version": 1}
    sector = label_coord("sector", SECTORS)
    dims = ("time", "sector", "lat", "lon")
    coarse = true[:, None] * SHARES[:, None, None]
    ds = xr.Dataset({"co2_emission": (dims, coarse, {"units": "t"})}, attrs=attrs)
    write_cube(
        store,
        "truth/emissions_025.zarr",
        ds.assign_coords({**grid.coords(), "time": months.to_numpy(), "sector": sector}),
    )
    if FINE_PER_COARSE * grid.n_lat > 2000:
        return
    years = np.array(sorted({np.datetime64(str(m.year), "ns") for m in months}))
    annual = np.stack([true[months.year == y.astype("datetime64[Y]").astype(int) + 1970].sum(axis=0) for y in years])
    fine = block_repeat(annual) * _fine_weights(grid, rng)
    ds = xr.Dataset({"co2_emission": (dims, (fine[:, None] * SHARES[:, None, None]).astype("f4"), {"units": "t"})})
    write_cube(
        store, "truth/emissions_001.zarr", ds.assign_coords({**grid.refine().coords(), "time": years, "sector": sector})
    )
