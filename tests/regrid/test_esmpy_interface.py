"""The stand-in offers what xESMF calls, and says what it does not."""

import numpy as np
import pytest
import xarray as xr

import pipeline.regrid.esmpy_engine as esmpy


def grid(nx=4, ny=3, corners=False, periodic=False, step=1.0):
    made = esmpy.Grid(
        np.array([nx, ny]),
        staggerloc=esmpy.StaggerLoc.CENTER,
        coord_sys=esmpy.CoordSys.SPH_DEG,
        num_peri_dims=1 if periodic else None,
    )
    step_x = 360 / nx if periodic else step
    made.get_coords(0)[...] = (step_x * (np.arange(nx) + 0.5))[:, None]
    made.get_coords(1)[...] = step * (np.arange(ny) + 0.5)
    if corners:
        made.add_coords(staggerloc=esmpy.StaggerLoc.CORNER)
        made.get_coords(0, esmpy.StaggerLoc.CORNER)[...] = (step * np.arange(nx + 1))[:, None]
        made.get_coords(1, esmpy.StaggerLoc.CORNER)[...] = step * np.arange(ny + 1)
    return made


def weights(source, target, method=esmpy.RegridMethod.BILINEAR, **kwargs):
    return esmpy.Regrid(esmpy.Field(source), esmpy.Field(target), regrid_method=method, **kwargs)


def test_values_of_the_enumerations():
    assert (esmpy.StaggerLoc.CENTER, esmpy.StaggerLoc.CORNER, esmpy.MeshLoc.ELEMENT) == (0, 3, 1)
    assert [m.value for m in esmpy.RegridMethod][:5] == [0, 1, 2, 3, 4]
    assert (esmpy.NormType.FRACAREA, esmpy.UnmappedAction.IGNORE, esmpy.ExtrapMethod.NEAREST_IDAVG) == (1, 1, 2)
    assert esmpy.api.locstream.LocStream is esmpy.LocStream


def test_grid_arrays_are_writable_views_in_fortran_order():
    made = grid(corners=True)
    assert made.get_coords(0) is made.coords[esmpy.StaggerLoc.CENTER][0]
    assert made.get_coords(0).flags.f_contiguous
    assert made.has_corners
    assert made.size[esmpy.StaggerLoc.CORNER].tolist() == [5, 4]
    assert (made.max_index + 1).tolist() == [5, 4]
    assert (made.periodic_dim, made.num_peri_dims, made.mask[0]) == (None, 0, None)
    made.add_item(esmpy.GridItem.MASK)
    assert (made.mask[0] == 1).all()
    assert grid(periodic=True).periodic_dim == 0


def test_identical_grids_map_each_point_to_itself():
    got = weights(grid(), grid()).get_weights_dict(deep_copy=True)
    matrix = np.zeros((12, 12))
    np.add.at(matrix, (got["row_dst"] - 1, got["col_src"] - 1), got["weights"])
    np.testing.assert_allclose(matrix, np.eye(12), atol=1e-12)
    assert got["row_dst"].dtype == np.int32


def test_online_application_equals_the_weights():
    source, target = grid(6, 5), grid(3, 2, step=2.0)
    regrid = weights(source, target)
    rng = np.random.default_rng(0)
    regrid.srcfield.data[...] = rng.random((6, 5))
    out = regrid(regrid.srcfield, regrid.dstfield).data
    got = regrid.get_weights_dict()
    flat = np.bincount(
        got["row_dst"] - 1, got["weights"] * regrid.srcfield.data.ravel(order="F")[got["col_src"] - 1], minlength=6
    )
    np.testing.assert_allclose(out.ravel(order="F"), flat)
    for part in (regrid, regrid.srcfield, regrid.dstfield, source):
        part.destroy()
        assert part.finalized


def test_extra_dims_are_regridded_together():
    source, target = grid(6, 5), grid(3, 2, step=2.0)
    regrid = esmpy.Regrid(esmpy.Field(source, ndbounds=[2]), esmpy.Field(target, ndbounds=[2]))
    regrid.srcfield.data[...] = np.stack([source.get_coords(0), source.get_coords(1)], axis=-1)
    out = regrid(regrid.srcfield, regrid.dstfield).data
    np.testing.assert_allclose(out[..., 1], target.get_coords(1), atol=0.002)


def test_areas_of_a_field():
    field = esmpy.Field(grid(corners=True))
    field.get_area()
    assert field.data.shape == (4, 3)
    assert field.data.sum() == pytest.approx(np.deg2rad(4) * np.sin(np.deg2rad(3)), rel=1e-3)


def mesh(nodes, sides, conn, centres=None):
    made = esmpy.Mesh(2, 2, coord_sys=esmpy.CoordSys.SPH_DEG)
    nodes = np.asarray(nodes, float)
    made.add_nodes(len(nodes), np.arange(len(nodes)) + 1, nodes.ravel(), np.zeros(len(nodes)))
    made.add_elements(len(sides), np.arange(len(sides)) + 1, np.array(sides), np.array(conn), element_coords=centres)
    return made


def test_a_concave_mesh_polygon_covers_what_it_should():
    source = grid(4, 3, corners=True)
    polygon = mesh([[0.5, 0.5], [3.5, 0.5], [3.5, 2.5], [2, 1.2], [0.5, 2.5]], [5], range(5))
    target = esmpy.Field(polygon, meshloc=esmpy.MeshLoc.ELEMENT)
    got = esmpy.Regrid(esmpy.Field(source), target, regrid_method=esmpy.RegridMethod.CONSERVE).get_weights_dict()
    assert got["weights"].sum() == pytest.approx(1, abs=1e-12)
    target.get_area()
    assert target.data.shape == (1,)
    assert polygon.element_count == polygon.size[esmpy.MeshLoc.ELEMENT] == 1


@pytest.mark.parametrize(("sides", "conn"), [([2], [0, 1]), ([3], [0, 1, 9]), ([3], [0, 1, 1]), ([4], [0, 1, 2])])
def test_a_bad_mesh_is_a_value_error(sides, conn):
    with pytest.raises(ValueError, match="mesh element"):
        mesh([[0, 0], [1, 0], [1, 1]], sides, conn)


def test_points_need_a_mesh_with_centres():
    triangle = mesh([[0, 0], [1, 0], [1, 1]], [3], [0, 1, 2])
    with pytest.raises(ValueError, match="no coordinates"):
        esmpy.Regrid(esmpy.Field(grid()), esmpy.Field(triangle), regrid_method=esmpy.RegridMethod.NEAREST_STOD)
    centred = mesh([[0, 0], [1, 0], [1, 1]], [3], [0, 1, 2], centres=np.array([0.6, 0.4]))
    got = esmpy.Regrid(esmpy.Field(grid()), esmpy.Field(centred), regrid_method=esmpy.RegridMethod.NEAREST_STOD)
    assert got.get_weights_dict()["col_src"].tolist() == [1]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"method": esmpy.RegridMethod.PATCH}, "method patch"),
        ({"method": esmpy.RegridMethod.CONSERVE_2ND}, "method conserve_2nd"),
        ({"vector_regrid": True}, "vector_regrid"),
        ({"unmapped_action": esmpy.UnmappedAction.ERROR}, "unmapped_action"),
        ({"extrap_method": esmpy.ExtrapMethod.CREEP}, "CREEP"),
    ],
)
def test_what_is_not_offered_names_itself_and_native_esmf(kwargs, words):
    with pytest.raises(ValueError, match=rf"does not offer .*{words}.*; install native ESMF \(conda install"):
        weights(grid(), grid(), **kwargs)


def test_conservative_takes_no_extrapolation():
    with pytest.raises(ValueError, match="cannot be joined with extrapolation"):
        weights(
            grid(corners=True),
            grid(corners=True),
            esmpy.RegridMethod.CONSERVE,
            extrap_method=esmpy.ExtrapMethod.NEAREST_STOD,
        )


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_bilinear_needs_two_points_each_way(shape):
    with pytest.raises(ValueError, match="use nearest_s2d"):
        weights(grid(*shape), grid())


@pytest.mark.parametrize("method", [esmpy.RegridMethod.BILINEAR, esmpy.RegridMethod.CONSERVE])
def test_cells_without_width_are_refused_or_dropped(method):
    flat = grid(5, 4, corners=True)
    flat.get_coords(0)[2] = flat.get_coords(0)[1]
    flat.get_coords(0, esmpy.StaggerLoc.CORNER)[2] = flat.get_coords(0, esmpy.StaggerLoc.CORNER)[1]
    target = grid(corners=True)
    with pytest.raises(ValueError, match=r"no width.*ignore_degenerate"):
        weights(flat, target, method)
    assert len(weights(flat, target, method, ignore_degenerate=True).get_weights_dict()["weights"])
    near = weights(flat, target, esmpy.RegridMethod.NEAREST_STOD)
    assert len(near.get_weights_dict()["weights"]) == 12


def test_missing_coordinates_only_lose_their_cells():
    source, target = grid(5, 4), grid(5, 4)
    target.get_coords(0)[0, 0] = np.nan
    source.get_coords(1)[4, 3] = np.nan
    rows = np.unique(weights(source, target).get_weights_dict()["row_dst"])
    assert set(range(1, 21)) - set(rows) == {1, 20}


def test_far_grids_share_no_weights():
    away = grid()
    away.get_coords(0)[...] += 100
    assert not len(weights(grid(), away).get_weights_dict()["weights"])


def test_a_weight_file_holds_the_weights(tmp_path):
    path = tmp_path / "weights.nc"
    got = weights(grid(), grid(), filename=str(path)).get_weights_dict()
    with xr.open_dataset(path, engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored["S"], got["weights"])
        np.testing.assert_array_equal(stored["row"], got["row_dst"])


def test_bad_grids_are_value_errors():
    with pytest.raises(ValueError, match="two dims"):
        esmpy.Grid(np.array([3, 3, 3]))
    with pytest.raises(ValueError, match="add_coords"):
        grid().get_coords(0, esmpy.StaggerLoc.CORNER)
    with pytest.raises(ValueError, match="CENTER or CORNER"):
        grid().add_coords(esmpy.StaggerLoc.EDGE1)
    with pytest.raises(ValueError, match="mask"):
        grid().add_item(esmpy.GridItem.AREA)
    with pytest.raises(ValueError, match="spherical"):
        esmpy.LocStream(3, coord_sys=esmpy.CoordSys.CART)
    stream = esmpy.LocStream(2)
    stream["ESMF:Lon"] = stream["ESMF:Lat"] = np.zeros(2)
    with pytest.raises(ValueError, match="have no area"):
        weights(grid(corners=True), stream, esmpy.RegridMethod.CONSERVE)
    with pytest.raises(ValueError, match="bilinear regridding from a mesh or points"):
        weights(stream, grid())
