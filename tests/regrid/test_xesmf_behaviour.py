"""What xESMF promises its users, through the engine."""

import dask
import numpy as np
import pytest
import xarray as xr

from pipeline.regrid import engine
from pipeline.regrid.plugin import process_options

xe = pytest.importorskip("xesmf")
pytestmark = pytest.mark.filterwarnings("ignore")


def axis(a, b, n):
    edges = np.linspace(a, b, n + 1)
    return (edges[1:] + edges[:-1]) / 2, edges


def box(west, east, n_lon, south, north, n_lat):
    (lon, lon_b), (lat, lat_b) = axis(west, east, n_lon), axis(south, north, n_lat)
    grid = xr.Dataset(coords={"lon": lon, "lat": lat, "lon_b": ("x_b", lon_b), "lat_b": ("y_b", lat_b)})
    grid.lon.attrs["units"], grid.lat.attrs["units"] = "degrees_east", "degrees_north"
    return grid


SOURCE, TARGET = box(100, 110, 20, 20, 30, 20), box(101, 109, 12, 21, 29, 12)


def field(grid, seed=None):
    smooth = 2 + np.cos(np.deg2rad(grid.lat)) ** 2 * np.cos(2 * np.deg2rad(grid.lon))
    if seed is None:
        return smooth
    return smooth.copy(data=np.random.default_rng(seed).random(smooth.shape))


@pytest.mark.parametrize("method", ["bilinear", "conservative", "conservative_normed", "nearest_s2d"])
def test_a_smooth_field_is_followed(method):
    got = xe.Regridder(SOURCE, TARGET, method)(field(SOURCE))
    assert got.dims == ("lat", "lon")
    assert abs(got - field(TARGET)).max() < {"bilinear": 2e-4, "nearest_s2d": 0.02}.get(method, 2e-3)


def test_periodic_grids_close_the_gap_and_the_poles():
    source, target = box(0, 360, 36, -90, 90, 18), box(-180, 180, 90, -90, 90, 45)
    open_, closed = (xe.Regridder(source, target, "bilinear", periodic=p, unmapped_to_nan=True) for p in (False, True))
    ones = xr.ones_like(field(source))
    assert open_(ones).isnull().any()
    assert abs(closed(ones) - 1).max() < 1e-12
    assert closed.periodic
    polar = closed(field(source)).isel(lat=-1)
    assert float(polar.std()) < float(field(source).isel(lat=-1).std()) + 1e-3


def test_unmapped_targets_are_zero_or_nan():
    wider = box(98, 112, 14, 18, 32, 14)
    zero, nan = (xe.Regridder(SOURCE, wider, "bilinear", unmapped_to_nan=n)(field(SOURCE)) for n in (False, True))
    assert (zero == 0).sum() == nan.isnull().sum() > 0
    assert bool(nan[0, 0].isnull())


def test_masks_take_cells_out_on_both_sides():
    source = SOURCE.assign(mask=(("lat", "lon"), (SOURCE.lon.values[None] < 105) * np.ones((20, 1), int)))
    target = TARGET.assign(mask=(("lat", "lon"), (TARGET.lat.values[:, None] < 25) * np.ones((1, 12), int)))
    got = xe.Regridder(source, target, "conservative_normed")(field(SOURCE))
    assert got.sel(lat=slice(25, None)).isnull().all()
    assert got.sel(lon=slice(105.4, None)).isnull().all()
    kept = got.sel(lat=slice(None, 24.9), lon=slice(None, 104.6))
    assert abs(kept - field(TARGET)).max() < 2e-3


@pytest.mark.parametrize(("na_thres", "missing"), [(0.0, 4), (0.3, 0), (1.0, 0)])
def test_skipna_and_its_threshold(na_thres, missing):
    data = field(SOURCE, 0)
    data[3, 3] = np.nan
    target = box(100.25, 109.75, 19, 20.25, 29.75, 19)
    regridder = xe.Regridder(SOURCE, target, "conservative")
    assert int(regridder(data, skipna=True, na_thres=na_thres).isnull().sum()) == missing
    assert int(regridder(data, skipna=False).isnull().sum()) == 4


@pytest.mark.parametrize("method", ["bilinear", "conservative"])
def test_weights_are_saved_and_used_again(tmp_path, method):
    regridder = xe.Regridder(SOURCE, TARGET, method)
    path = str(tmp_path / "weights.nc")
    regridder.to_netcdf(path)
    with xr.open_dataset(path, engine="h5netcdf") as stored:
        again = xe.Regridder(SOURCE, TARGET, method, weights=stored.load())
    xr.testing.assert_identical(again(field(SOURCE)), regridder(field(SOURCE)))


def test_lists_of_points():
    points = xr.Dataset(coords={"lon": ("p", [101.3, 104.9, 99.0]), "lat": ("p", [22.2, 27.7, 25.0])})
    got = xe.Regridder(SOURCE, points, "bilinear", locstream_out=True, unmapped_to_nan=True)(field(SOURCE))
    expected = field(SOURCE).interp(lon=points.lon, lat=points.lat)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert bool(got[2].isnull())
    back = xe.Regridder(points, SOURCE, "nearest_s2d", locstream_in=True)(xr.DataArray([1.0, 2, 3], dims="p"))
    assert set(np.unique(back)) == {1, 2, 3}


@pytest.mark.parametrize("how", ["nearest_s2d", "inverse_dist"])
def test_extrapolation_fills_every_target(how):
    wider = box(98, 112, 14, 18, 32, 14)
    got = xe.Regridder(SOURCE, wider, "bilinear", extrap_method=how, unmapped_to_nan=True)(field(SOURCE))
    assert got.notnull().all()
    assert float(field(SOURCE).min()) - 1e-9 <= float(got.min())
    with pytest.raises(ValueError, match="extrapolation"):
        xe.Regridder(SOURCE, wider, "conservative", extrap_method=how)


def test_curvilinear_grids_keep_their_mass():
    x, y = np.meshgrid(np.linspace(0, 6, 25), np.linspace(0, 6, 25))
    lon_b, lat_b = 101.5 + x * 0.9 + 0.2 * y, 21.5 + 0.9 * y - 0.15 * x

    def centre(a):
        return (a[1:, 1:] + a[:-1, 1:] + a[1:, :-1] + a[:-1, :-1]) / 4

    swath = xr.Dataset(
        coords={
            "lon": (("y", "x"), centre(lon_b)),
            "lat": (("y", "x"), centre(lat_b)),
            "lon_b": (("y_b", "x_b"), lon_b),
            "lat_b": (("y_b", "x_b"), lat_b),
        }
    )
    data = xr.DataArray(np.random.default_rng(1).random((24, 24)), dims=("y", "x"))
    got = xe.Regridder(swath, SOURCE, "conservative")(data)
    mass_in, mass_out = (data * xe.util.cell_area(swath)).sum(), (got * xe.util.cell_area(SOURCE)).sum()
    assert float(mass_out) == pytest.approx(float(mass_in), rel=1e-10)


def test_patch_says_what_to_do():
    with pytest.raises(ValueError, match=r"method patch; install native ESMF"):
        xe.Regridder(SOURCE, TARGET, "patch")


@pytest.mark.slow
def test_weights_in_parallel_processes():
    """Spawned processes know nothing of this one's imports: the options bring the engine to them."""
    chunked = TARGET.assign(mask=(("lat", "lon"), np.ones((12, 12), int))).chunk(lat=6, lon=12)
    with dask.config.set(process_options()):
        parallel = xe.Regridder(SOURCE, chunked, "bilinear", parallel=True)
    serial = xe.Regridder(SOURCE, TARGET, "bilinear")
    np.testing.assert_allclose(parallel(field(SOURCE)), serial(field(SOURCE)), rtol=1e-12)


def test_the_engine_has_a_name_and_a_version():
    name, version = engine()
    assert name in ("carboncube-numpy", "ESMF")
    assert version[0].isdigit()
