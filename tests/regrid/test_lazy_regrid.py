"""`regrid`: laws that hold for any field, any chunking, any orientation; laziness; memory."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import InputError
from pipeline.core.grid import G001, Grid
from pipeline.regrid import apply as module
from pipeline.regrid import regrid, regrid_with_fraction
from pipeline.regrid.axes import Axes
from pipeline.regrid.kernels import window
from pipeline.store.location import Store

METHODS = ("bilinear", "conservative", "sum", "nearest_s2d")


def source(n_lat=31, n_lon=37, times=2, seed=0, gaps=0.0, step=0.3):
    rng = np.random.default_rng(seed)
    values = rng.random((times, n_lat, n_lon)) + 0.5
    values[rng.random(values.shape) < gaps] = np.nan
    return xr.DataArray(
        values,
        dims=("time", "lat", "lon"),
        coords={
            "time": np.arange(times),
            "lat": 30.11 + step * np.arange(n_lat),
            "lon": 110.07 + step * np.arange(n_lon),
        },
        name="field",
        attrs={"units": "1"},
    )


AROUND = Grid.from_bounds(109, 29, 122, 40, 4)
INSIDE = Grid.from_bounds(111, 31, 119, 38, 4)


class Counter:
    """A scheduler that counts what it is asked to compute."""

    def __init__(self):
        self.calls = 0

    def __call__(self, dsk, keys, **kwargs):
        self.calls += 1
        return dask.get(dsk, keys, **kwargs)


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.9]), st.floats(0.05, 0.9))
@settings(max_examples=15, deadline=None)
def test_people_are_conserved(seed, gaps, step):
    """The total of amounts stays, missing ones aside, when the target holds the source."""
    people = source(12, 15, seed=seed, gaps=gaps, step=step)
    target = Grid.from_bounds(109, 29, 125, 42, 4)
    got = regrid(people, target, "sum")
    np.testing.assert_allclose(got.sum(("lat", "lon")), people.sum(("lat", "lon")), rtol=2e-10)


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_mass_of_a_flux_is_conserved(seed):
    """sum of mean x covered area over the target is sum of flux x area over the source."""
    flux = source(seed=seed)
    got = regrid_with_fraction(flux, AROUND, "conservative")
    axes = Axes.of_array(flux)
    area = np.outer(axes.bands, axes.widths)
    goal = Axes.of_grid(AROUND)
    covered = got["valid_fraction"] * np.outer(goal.bands, goal.widths)
    mass = (got["field"].fillna(0) * covered).sum(("lat", "lon"))
    np.testing.assert_allclose(mass, (flux * area).sum(("lat", "lon")), rtol=1e-9)


@given(st.floats(-1e6, 1e6), st.sampled_from(METHODS), st.sampled_from([0.0, 0.4]))
@settings(max_examples=20, deadline=None)
def test_constants_are_preserved(value, method, gaps):
    field = source(gaps=gaps).notnull().where(source(gaps=gaps).notnull()) * value
    got = regrid(field, AROUND, "conservative" if method == "sum" else method)
    seen = got.values[np.isfinite(got.values)]
    assert seen.size
    np.testing.assert_allclose(seen, value, rtol=1e-12, atol=1e-30)


@given(st.data())
@settings(max_examples=6, deadline=None)
def test_any_chunking_equals_one_chunk(data):
    method = data.draw(st.sampled_from(METHODS))
    field = source(gaps=0.2)
    sizes = {d: data.draw(st.integers(1, field.sizes[d] + 1), d) for d in field.dims}
    out = {d: data.draw(st.integers(5, 60), "out " + d) for d in ("lat", "lon")}
    lazy = regrid(field.chunk(sizes), INSIDE, method, chunks=out)
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.values, regrid(field, INSIDE, method).values, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_orientation_is_irrelevant(method):
    field = source(gaps=0.2)
    straight = regrid(field, AROUND, method)
    turned = {
        "north first": field[:, ::-1],
        "east first": field[..., ::-1],
        "lon before lat": field.transpose("lon", "time", "lat"),
        "0..360": field.assign_coords(lon=field.lon + 360),
    }
    for name, other in turned.items():
        got = regrid(other, AROUND, method).transpose("time", "lat", "lon")
        np.testing.assert_allclose(got, straight, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_computed_while_the_graph_is_built(method, tmp_path):
    counter = Counter()
    with dask.config.set(scheduler=counter):
        lazy = regrid(source().chunk(time=1, lat=7), INSIDE, method, store=Store(str(tmp_path)))
        both = regrid_with_fraction(source().chunk(time=1), INSIDE, method)
        assert counter.calls == 0
        lazy.compute()
        both.compute()
    assert counter.calls == 2


def test_xesmf_with_skipna_gives_the_same():
    xesmf = pytest.importorskip("xesmf")
    field = source(gaps=0.3).isel(time=0)
    axes, goal = Axes.of_array(field), Axes.of_grid(INSIDE)
    grids = [
        xr.Dataset(coords={"lat": a.lat, "lon": a.lon, "lat_b": ("y", a.lat_edges), "lon_b": ("x", a.lon_edges)})
        for a in (axes, goal)
    ]
    expected = xesmf.Regridder(*grids, "conservative")(field, skipna=True, na_thres=1.0)
    # The rest is parallels against great circles, on a field that is noise.
    np.testing.assert_allclose(regrid(field, INSIDE, "conservative"), expected, rtol=5e-4)


def test_the_valid_fraction_is_the_covered_share():
    field = source(gaps=0.3)
    got = regrid_with_fraction(field.chunk(time=1), AROUND, "conservative", chunks={"lat": 17, "lon": 20}).compute()
    fraction = got["valid_fraction"]
    assert float(fraction.min()) == 0
    assert float(fraction.max()) <= 1 + 1e-12
    assert ((fraction > 1e-6) == got["field"].notnull()).all()
    ones = regrid(field.notnull().astype(float), AROUND, "conservative")
    whole = regrid_with_fraction(field.fillna(0), AROUND, "conservative")["valid_fraction"]
    np.testing.assert_allclose(fraction, (ones * whole).fillna(0), atol=1e-12)


@pytest.mark.parametrize(("least", "kept"), [(0.0, True), (0.4, True), (0.6, False)])
def test_half_valid_cells_fall_on_either_side_of_the_threshold(least, kept):
    field = (
        source(20, 20, step=0.125)
        .isel(time=0)
        .assign_coords(lat=30 + 0.0625 + 0.125 * np.arange(20), lon=110 + 0.0625 + 0.125 * np.arange(20))
    )
    field[:, ::2] = np.nan
    got = regrid(field, Grid.from_bounds(110, 30, 112, 32, 4), "conservative", min_valid=least)
    assert bool(got.notnull().all()) is kept


def test_what_lies_outside_is_missing():
    far = Grid.from_bounds(60, -10, 62, -8, 4)
    for method in ("bilinear", "conservative", "sum"):
        lazy = regrid_with_fraction(source().chunk(time=1), far, method).compute()
        assert lazy["field"].isnull().all()
        assert (lazy["valid_fraction"] == 0).all()


def test_name_attributes_and_coordinates_come_along():
    got = regrid(source(), INSIDE, "conservative")
    assert (got.name, got.attrs["units"], got.attrs["regrid_method"]) == ("field", "1", "conservative")
    np.testing.assert_array_equal(got["lon"], INSIDE.lon)
    assert got["lat"].attrs["units"] == "degrees_north"
    assert list(got.coords) == ["time", "lat", "lon"]
    assert regrid(source().rename(None).chunk(time=1), INSIDE, "conservative").name is None


@pytest.mark.parametrize(("given", "expected"), [("u1", "f4"), ("i2", "f4"), ("f4", "f4"), ("i4", "f8"), ("f8", "f8")])
def test_types(given, expected):
    field = (source() * 40).astype(given)
    eager, lazy = regrid(field, INSIDE, "conservative"), regrid(field.chunk(time=1), INSIDE, "conservative")
    assert eager.dtype == lazy.dtype == lazy.compute().dtype == expected


def test_masks_and_methods_without_separable_weights_go_the_general_way():
    field = source(gaps=0.1)
    keep = xr.DataArray(field.lon.values < 115, dims="lon").broadcast_like(field.isel(time=0)).transpose("lat", "lon")
    lazy = regrid(field.chunk(lat=9, lon=10), INSIDE, "conservative", mask=keep, chunks={"lat": 9, "lon": 11})
    plain = regrid(field.where(keep), INSIDE, "conservative")
    np.testing.assert_allclose(lazy, plain, rtol=1e-3)
    assert lazy.sel(lon=slice(115.5, None)).isnull().all()
    nearest = regrid(field.chunk(time=1), INSIDE, "nearest_d2s", chunks={"lat": 5, "lon": 7})
    np.testing.assert_allclose(nearest, regrid(field, INSIDE, "nearest_d2s"), rtol=1e-12)
    with pytest.raises(InputError, match="mask"):
        regrid(field, INSIDE, "conservative", mask=keep[:5])


def test_a_globe_cut_inside_the_target_reads_both_ends_only():
    lon = np.arange(0.5, 360)
    field = xr.DataArray(
        da.from_array(np.cos(np.deg2rad(lon))[None] * np.ones((20, 1)), chunks=(20, 10)),
        dims=("lat", "lon"),
        coords={"lat": 30.5 + np.arange(20), "lon": lon},
    )
    grid = Grid.from_bounds(-6, 32, 6, 44, 4)
    got = regrid(field, grid, "bilinear")
    np.testing.assert_allclose(got, np.cos(np.deg2rad(grid.lon))[None] * np.ones((48, 1)), atol=2e-4)
    assert len(got.__dask_graph__().cull(got.__dask_keys__()).to_dict()) < 30


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([3, 4, 5], [slice(3, 6)]),
        ([0, 1, 98, 99], [slice(0, 2), slice(98, 100)]),
        ([10, 30], [slice(10, 31)]),
        ([], []),
    ],
)
def test_windows(used, expected):
    assert window(np.array(used, int), 100) == expected


def test_a_national_night_at_one_kilometre_is_bounded():
    """15 arc-second lights onto G001: no task holds more than its window, whatever the stored chunks."""
    lights = xr.DataArray(
        da.zeros((12, 11072, 13713), chunks=(12, 2048, 2048), dtype="u1"),
        dims=("time", "lat", "lon"),
        coords={"lat": 53.56 - 0.0044916 * np.arange(11072), "lon": 73.496 + 0.0044916 * np.arange(13713)},
    )
    seen = []
    original = module._window

    def spy(data, windows):
        seen.append(original(data, windows))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_window", spy)
        out = regrid(lights, G001, "conservative")
    assert out.shape == (12, *G001.shape)
    assert max(max(c) for c in out.chunks[1:]) <= 1050
    window_cells = max(int(np.prod(w.shape[-2:])) for w in seen)
    assert window_cells < 2200 * 2500
    for w in seen:
        steps = max(module._lead_chunks(w, 950 * 1050)[0])
        assert steps * int(np.prod(w.shape[-2:])) * 8 <= module.BLOCK_BYTES
    assert len(out.__dask_graph__()) < 12 * 24 * 25
