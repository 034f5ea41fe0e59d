"""Weights along each axis against the general ones, and their place in the store."""

import numpy as np
import pytest
import xarray as xr
from scipy import sparse

from pipeline.core.errors import InputError, StoreError
from pipeline.core.grid import Grid
from pipeline.regrid import weights as module
from pipeline.regrid.axes import Axes, midpoint_edges
from pipeline.regrid.weights import General, Separable, separable, weights_for
from pipeline.store.location import Store


def axes(lat, lon):
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    return Axes(lat, lon, np.clip(midpoint_edges(lat), -90, 90), midpoint_edges(lon))


SOURCE = axes(45 - 0.3 * np.arange(40), 100 + 0.3 * np.arange(50))
TARGET = Axes.of_grid(Grid.from_bounds(101, 34, 113, 44, 4))


def kron(weights):
    return sparse.csr_array(sparse.kron(weights.lat, weights.lon))


def general(source, target, method):
    given, wanted = module._dataset(source), module._dataset(target)
    return module._matrix(given, wanted, method)


@pytest.mark.parametrize(
    ("method", "weight", "field"), [("conservative", 1e-3, 5e-6), ("bilinear", 3e-4, 2e-6), ("nearest_s2d", 0, 0)]
)
def test_the_product_of_the_axes_is_the_general_answer(method, weight, field):
    """Parallels against great circles (conservative) and the bent cells of 3-D bilinear: the stated differences."""
    both = kron(weights_for(SOURCE, TARGET, method)), general(SOURCE, TARGET, method)
    assert abs(both[0] - both[1]).max() <= weight
    lat, lon = np.meshgrid(np.deg2rad(SOURCE.lat), np.deg2rad(SOURCE.lon), indexing="ij")
    smooth = (2 + np.cos(lat) ** 2 * np.cos(2 * lon)).ravel()
    one, two = (w @ smooth for w in both)
    assert np.abs(one - two).max() <= field


def test_conservative_weights_are_overlaps_of_bands_and_widths():
    """Exactly, on the sphere: areas between parallels are R2 dlon (sin north - sin south)."""
    weights = weights_for(SOURCE, TARGET, "conservative")
    assert isinstance(weights, Separable)

    def share(target, source):
        low, high = (
            (np.minimum(e[:-1], e[1:]) for e in (target, source)),
            (np.maximum(e[:-1], e[1:]) for e in (target, source)),
        )
        (t0, s0), (t1, s1) = low, high
        cut = np.minimum(t1[:, None], s1) - np.maximum(t0[:, None], s0)
        return np.maximum(cut, 0) / (t1 - t0)[:, None]

    sine = share(np.sin(np.deg2rad(TARGET.lat_edges)), np.sin(np.deg2rad(SOURCE.lat_edges)))
    np.testing.assert_allclose(weights.lat.toarray(), sine, atol=3e-11)
    np.testing.assert_allclose(weights.lon.toarray(), share(TARGET.lon_edges, SOURCE.lon_edges), atol=1e-11)


def test_winds_between_points_get_the_general_answer_exactly():
    """Points to the quarter-degree cells between them: every target stands alike in its cell."""
    points = axes(50 - 0.25 * np.arange(80), 100 + 0.25 * np.arange(60))
    for target in (Grid.from_bounds(101, 34, 113, 44, 4), Grid.from_bounds(100, 31, 114, 50, 4)):
        goal = Axes.of_grid(target)
        both = kron(weights_for(points, goal, "bilinear")), general(points, goal, "bilinear")
        assert abs(both[0] - both[1]).max() <= 1e-12


@pytest.mark.parametrize("shift", [-360, 360])
def test_longitudes_may_be_written_either_way(shift):
    moved = axes(SOURCE.lat, SOURCE.lon + shift)
    for method in ("conservative", "bilinear"):
        here, there = (weights_for(s, TARGET, method).lon for s in (SOURCE, moved))
        assert abs(here - there).max() < 1e-10


def test_what_is_separable():
    globe = axes(np.linspace(-89, 89, 90), np.linspace(0, 358, 180))
    polar = Axes.of_grid(Grid.from_bounds(0, 80, 20, 90, 4))
    assert globe.closed
    assert not SOURCE.closed
    assert separable(globe, TARGET, "bilinear")
    assert not separable(globe, polar, "bilinear")
    assert separable(globe, polar, "conservative")
    assert not separable(SOURCE, TARGET, "bilinear", np.ones(SOURCE.shape, bool))
    assert not separable(SOURCE, TARGET, "nearest_d2s")


def test_beyond_the_last_row_of_the_globe_the_general_weights_reach_the_pole():
    globe = axes(np.linspace(-85, 85, 18), np.linspace(0, 350, 36))
    polar = Axes.of_grid(Grid.from_bounds(0, 84, 20, 90, 1))
    weights = weights_for(globe, polar, "bilinear")
    assert isinstance(weights, General)
    np.testing.assert_allclose(weights.matrix.sum(axis=1), 1, atol=1e-12)


def test_weights_are_made_once_and_kept(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    masked = np.ones(SOURCE.shape, bool)
    masked[:3] = False
    kinds = [("conservative", None), ("bilinear", masked)]
    first = [weights_for(SOURCE, TARGET, m, k, store) for m, k in kinds]
    assert len(store.names("work/weights")) == 2
    monkeypatch.setattr(module, "_make", lambda *_: pytest.fail("made again"))
    for (method, mask), old in zip(kinds, first, strict=True):
        new = weights_for(SOURCE, TARGET, method, mask, store)
        assert type(new) is type(old)
        for name, value in vars(old).items():
            if isinstance(value, sparse.csr_array):
                assert (value != getattr(new, name)).nnz == 0
            else:
                assert value == getattr(new, name)


@pytest.mark.parametrize("change", ["method", "source", "target", "mask", "engine"])
def test_the_key_knows_all_that_matters(tmp_path, monkeypatch, change):
    store = Store(str(tmp_path))
    weights_for(SOURCE, TARGET, "conservative", None, store)
    args = {"source": SOURCE, "target": TARGET, "method": "conservative", "mask": None}
    if change == "engine":
        monkeypatch.setattr(module, "engine", lambda: ("ESMF", "9"))
    else:
        args[change] = {
            "method": "bilinear",
            "source": axes(SOURCE.lat + 1e-9, SOURCE.lon),
            "target": Axes.of_grid(Grid.from_bounds(101, 34, 113, 43, 4)),
            "mask": np.ones(SOURCE.shape, bool),
        }[change]
    weights_for(
        *args.values() if change == "engine" else (args[k] for k in ("source", "target", "method", "mask")), store
    )
    assert len(store.names("work/weights")) == 2


def test_damaged_weights_are_named(tmp_path):
    store = Store(str(tmp_path))
    weights_for(SOURCE, TARGET, "conservative", None, store)
    name = f"work/weights/{store.names('work/weights')[0]}"
    store.write_bytes(store.read_bytes(name)[:200], name)
    with pytest.raises(StoreError, match=r"damaged.*remove the file"):
        weights_for(SOURCE, TARGET, "conservative", None, store)


def test_unknown_methods_and_too_large_general_targets_are_refused(monkeypatch):
    with pytest.raises(InputError, match="method 'cubic'; expected one of bilinear"):
        weights_for(SOURCE, TARGET, "cubic")
    monkeypatch.setattr(module, "_GENERAL_LIMIT", 100)
    with pytest.raises(InputError, match="at most 100 target cells"):
        weights_for(SOURCE, TARGET, "nearest_d2s")


@pytest.mark.parametrize(
    "coords",
    [
        {"lat": [1.0, 3.0, 2.0], "lon": [0.0, 1.0]},
        {"lat": [1.0, 2.0], "lon": [0.0, np.nan]},
        {"lat": [80.0, 95.0], "lon": [0.0, 1.0]},
        {"lat": [1.0], "lon": [0.0, 1.0]},
    ],
)
def test_axes_that_are_none_are_refused(coords):
    array = xr.DataArray(np.zeros((len(coords["lat"]), len(coords["lon"]))), coords, ("lat", "lon"), name="field")
    with pytest.raises(InputError, match="'field'"):
        Axes.of_array(array)
    with pytest.raises(InputError, match="1-D coordinate 'lat'"):
        Axes.of_array(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")))
