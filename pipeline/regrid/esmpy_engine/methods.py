"""From two grids and a method to weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.regrid.esmpy_engine.api.constants import ExtrapMethod, NormType, RegridMethod, StaggerLoc
from pipeline.regrid.esmpy_engine.api.grid import Grid
from pipeline.regrid.esmpy_engine.bilinear import bilinear
from pipeline.regrid.esmpy_engine.cells import Cells, degenerate
from pipeline.regrid.esmpy_engine.conservative import normalise, overlaps
from pipeline.regrid.esmpy_engine.nearest import inverse_distance, source_to_target, target_to_source
from pipeline.regrid.esmpy_engine.pole import pole_fan
from pipeline.regrid.esmpy_engine.shapes import Place, active, points, polygons
from pipeline.regrid.esmpy_engine.sphere import Floats, boxes, polygon_area, to_xyz
from pipeline.regrid.esmpy_engine.weights import Triplets

NATIVE = "install native ESMF (conda install -c conda-forge esmpy), which is then used by itself"


@dataclass(frozen=True)
class Options:
    """How to compute weights; see `esmpy_engine.api.regrid.Regrid`."""

    method: RegridMethod
    norm_type: NormType
    extrap_method: ExtrapMethod | None
    extrap_points: int
    extrap_exponent: float
    ignore_degenerate: bool
    src_mask_values: Sequence[int] | None
    dst_mask_values: Sequence[int] | None
    unsupported: str | None


def refuse(what: str) -> ValueError:
    """The error for what native ESMF can do and this engine cannot."""
    return ValueError(f"the NumPy engine does not offer {what}; {NATIVE}")


def compute(source: Place, target: Place, options: Options) -> Triplets:
    """Weights, sorted by target, then source; flat indices from 0.

    Raises
    ------
    ValueError : not offered, degenerate cells, a source too small for the method, or extrapolation with a
        conservative method.
    """
    if options.unsupported:
        raise refuse(options.unsupported)
    if options.extrap_method not in (None, ExtrapMethod.NEAREST_STOD, ExtrapMethod.NEAREST_IDAVG):
        raise refuse(f"extrapolation method {options.extrap_method!r}")
    if options.method == RegridMethod.CONSERVE:
        if options.extrap_method is not None:
            raise ValueError("conservative regridding cannot be joined with extrapolation; leave out extrap_method")
        return _conservative(source, target, options)
    if options.method in (RegridMethod.NEAREST_STOD, RegridMethod.NEAREST_DTOS):
        weights = _nearest(source, target, options)
    elif options.method == RegridMethod.BILINEAR:
        weights = _bilinear(source, target, options)
    else:
        raise refuse(f"method {options.method.name.lower()}")
    if options.extrap_method is not None:
        weights = weights.join(_extrapolated(source, target, options, weights))
    return weights.summed(len(active(source, None)))


def _usable(place: Place, mask_values: Sequence[int] | None) -> tuple[np.ndarray, Floats, Floats]:
    """Indices of points that are unmasked and have coordinates, and all coordinates with NaN set to 0."""
    lon, lat = points(place)
    finite = np.isfinite(lon) & np.isfinite(lat)
    ids = np.flatnonzero(active(place, mask_values) & finite)
    return ids, np.where(finite, lon, 0.0), np.where(finite, lat, 0.0)


def _nearest(source: Place, target: Place, options: Options) -> Triplets:
    src, src_lon, src_lat = _usable(source, options.src_mask_values)
    dst, dst_lon, dst_lat = _usable(target, options.dst_mask_values)
    function = source_to_target if options.method == RegridMethod.NEAREST_STOD else target_to_source
    return function(to_xyz(src_lon[src], src_lat[src]), src, to_xyz(dst_lon[dst], dst_lat[dst]), dst)


def _extrapolated(source: Place, target: Place, options: Options, weights: Triplets) -> Triplets:
    src, src_lon, src_lat = _usable(source, options.src_mask_values)
    dst, dst_lon, dst_lat = _usable(target, options.dst_mask_values)
    dst = np.setdiff1d(dst, weights.row)
    near, far = to_xyz(src_lon[src], src_lat[src]), to_xyz(dst_lon[dst], dst_lat[dst])
    if options.extrap_method == ExtrapMethod.NEAREST_STOD:
        return source_to_target(near, src, far, dst)
    return inverse_distance(near, src, far, dst, options.extrap_exponent, options.extrap_points)


def _bilinear(source: Place, target: Place, options: Options) -> Triplets:
    if not isinstance(source, Grid):
        raise refuse("bilinear regridding from a mesh or points")
    dst, lon, lat = _usable(target, options.dst_mask_values)
    goal = (lon[dst], lat[dst], to_xyz(lon[dst], lat[dst]))
    cells, nodes = source_cells(source, options)
    weights = bilinear(cells, *goal)
    if source.num_peri_dims:
        weights = _with_poles(source, nodes, goal, weights)
    return Triplets(dst[weights.row], weights.col, weights.weight)


def source_cells(source: Grid, options: Options) -> tuple[Cells, np.ndarray]:
    """Cells between the unmasked centres of a grid, and which centres are unmasked.

    Raises
    ------
    ValueError : fewer than two centres along a dim, or cells without width that are not to be ignored.
    """
    if source.max_index.min() < 2:
        raise ValueError(
            f"a source of {source.max_index[0]} x {source.max_index[1]} points has no cells to interpolate in; "
            "expected at least 2 x 2, or use nearest_s2d"
        )
    cells = source.cells(StaggerLoc.CENTER)
    nodes = source.active(options.src_mask_values)
    finite = ~np.isnan(cells.xyz.sum(axis=1))
    usable = cells.take(np.flatnonzero(finite[cells.corner].sum(axis=1) == 4))
    usable = _without_degenerate(usable, options, "source")
    return usable.take(np.flatnonzero(nodes[usable.corner].sum(axis=1) == 4)), nodes & finite


def _without_degenerate(cells: Cells, options: Options, which: str) -> Cells:
    flat = degenerate(cells)
    if flat.any() and not options.ignore_degenerate:
        k = int(flat.argmax())
        corner = cells.corner[k]
        raise ValueError(
            f"{int(flat.sum())} cells of the {which} grid have no width, the first between lon "
            f"{cells.lon[corner].tolist()}, lat {cells.lat[corner].tolist()}; "
            "repair the grid or set ignore_degenerate=True"
        )
    return cells.take(np.flatnonzero(~flat))


def _with_poles(source: Grid, nodes: np.ndarray, goal: tuple[Floats, Floats, Floats], weights: Triplets) -> Triplets:
    cells = source.cells(StaggerLoc.CENTER)
    nx, ny = (int(n) for n in source.max_index)
    lon, lat, xyz = goal
    for start in (0, (ny - 1) * nx):
        row = np.arange(start, start + nx)
        if not nodes[row].all():
            continue
        left = np.setdiff1d(np.arange(len(lon)), weights.row)
        fan = pole_fan(row, cells.lon, cells.lat, cells.xyz, (lon[left], lat[left], xyz[left]))
        weights = weights.join(Triplets(left[fan.row], fan.col, fan.weight))
    return weights


def _conservative(source: Place, target: Place, options: Options) -> Triplets:
    src_keep, dst_keep = active(source, options.src_mask_values), active(target, options.dst_mask_values)
    found, area = Triplets.empty(), np.zeros(len(dst_keep))
    targets = [_polygon_batch(b, target, dst_keep, options, "target") for b in polygons(target)]
    for src_ids, src_lon, src_lat in (_polygon_batch(b, source, src_keep, options, "source") for b in polygons(source)):
        if src_lon.shape[1] != 4:
            raise refuse("conservative regridding from a mesh")
        src_xyz, src_box = to_xyz(src_lon, src_lat), boxes(src_lon, src_lat)
        for dst_ids, dst_lon, dst_lat in targets:
            dst_xyz = to_xyz(dst_lon, dst_lat)
            area[dst_ids] = np.abs(polygon_area(dst_xyz))
            piece = overlaps(src_xyz, src_box, dst_xyz, boxes(dst_lon, dst_lat))
            found = found.join(Triplets(dst_ids[piece.row], src_ids[piece.col], piece.weight))
    weights = normalise(found, area, options.norm_type == NormType.FRACAREA)
    return weights.summed(len(src_keep))


def _polygon_batch(
    batch: tuple[np.ndarray, Floats, Floats], place: Place, keep: np.ndarray, options: Options, which: str
) -> tuple[np.ndarray, Floats, Floats]:
    """The usable polygons of a batch: finite, unmasked, with some width."""
    ids, lon, lat = batch
    good = np.isfinite(lon).all(axis=1) & np.isfinite(lat).all(axis=1)
    if isinstance(place, Grid):
        n = lon.size
        cells = Cells(lon.ravel(), lat.ravel(), to_xyz(lon.ravel(), lat.ravel()), np.arange(n).reshape(-1, 4))
        kept = _without_degenerate(cells.take(np.flatnonzero(good)), options, which).corner[:, 0] // 4
        good = np.isin(np.arange(len(ids)), kept)
    good &= keep[ids]
    return ids[good], lon[good], lat[good]
