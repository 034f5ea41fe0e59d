"""Weights from a source to a destination field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import sparse

from pipeline.regrid.esmpy_engine.api.constants import (
    ExtrapMethod,
    NormType,
    RegridMethod,
    UnmappedAction,
)
from pipeline.regrid.esmpy_engine.api.field import Field, horizontal_shape
from pipeline.regrid.esmpy_engine.methods import Options, compute


class Regrid:
    """Weights between the centres (or cells) of two fields' grids.

    Parameters
    ----------
    srcfield, dstfield : fields on the two grids.
    filename : file to write the weights to as well (netCDF; `S`, `col` and `row` as xESMF reads them).
    regrid_method, norm_type, extrap_method, extrap_dist_exponent, extrap_num_src_pnts : how.
    unmapped_action : only IGNORE.
    ignore_degenerate : leave out cells without width instead of refusing them.
    src_mask_values, dst_mask_values : mask values that take a cell out.
    factors : accepted; weights are always kept.
    vector_regrid : not offered.

    Raises
    ------
    ValueError : something the engine does not offer, or grids the method cannot use.
    """

    def __init__(  # esmpy's own signature
        self,
        srcfield: Field,
        dstfield: Field,
        filename: str | None = None,
        src_mask_values: Sequence[int] | None = None,
        dst_mask_values: Sequence[int] | None = None,
        regrid_method: RegridMethod = RegridMethod.BILINEAR,
        norm_type: NormType = NormType.DSTAREA,
        unmapped_action: UnmappedAction = UnmappedAction.IGNORE,
        ignore_degenerate: bool | None = None,
        extrap_method: ExtrapMethod | None = None,
        extrap_num_src_pnts: int | None = None,
        extrap_dist_exponent: float | None = None,
        factors: bool = True,
        vector_regrid: bool = False,
    ) -> None:
        self.srcfield, self.dstfield = srcfield, dstfield
        self.regrid_method, self.unmapped_action = regrid_method, unmapped_action
        self.finalized, self.factors = False, factors
        self._weights = compute(
            srcfield.grid,
            dstfield.grid,
            Options(
                method=RegridMethod(regrid_method),
                norm_type=norm_type,
                extrap_method=extrap_method or None,
                extrap_points=8 if extrap_num_src_pnts is None else extrap_num_src_pnts,
                extrap_exponent=2.0 if extrap_dist_exponent is None else extrap_dist_exponent,
                ignore_degenerate=bool(ignore_degenerate),
                src_mask_values=src_mask_values,
                dst_mask_values=dst_mask_values,
                unsupported=_unsupported(unmapped_action, vector_regrid),
            ),
        )
        if filename is not None:
            self._write(filename)

    def get_weights_dict(self, deep_copy: bool = False) -> dict[str, np.ndarray]:
        """Weights as ``row_dst``, ``col_src`` (int32, from 1, x fastest) and ``weights``."""
        return {
            "row_dst": (self._weights.row + 1).astype(np.int32),
            "col_src": (self._weights.col + 1).astype(np.int32),
            "weights": self._weights.weight.copy() if deep_copy else self._weights.weight,
        }

    def __call__(self, srcfield: Field, dstfield: Field) -> Field:
        """Apply the weights: fill the destination field; unmapped values become 0."""
        n_dim = len(horizontal_shape(srcfield.grid))
        source = srcfield.data.reshape(-1, *srcfield.data.shape[n_dim:], order="F")
        n_out = int(np.prod(horizontal_shape(dstfield.grid)))
        w = self._weights
        matrix = sparse.csr_array((w.weight, (w.row, w.col)), shape=(n_out, len(source)))
        result = matrix @ source.reshape(len(source), -1)
        dstfield.data[...] = result.reshape(dstfield.data.shape, order="F")
        return dstfield

    def _write(self, filename: str) -> None:
        weights = self.get_weights_dict()
        names = {"S": "weights", "col": "col_src", "row": "row_dst"}
        xr.Dataset({short: ("n_s", weights[long]) for short, long in names.items()}).to_netcdf(
            filename, engine="h5netcdf"
        )

    def destroy(self) -> None:
        """Mark as done; memory is Python's to free."""
        self.finalized = True


def _unsupported(unmapped: UnmappedAction, vector: bool) -> str | None:
    if unmapped != UnmappedAction.IGNORE:
        return "unmapped_action=ERROR"
    return "vector_regrid=True" if vector else None
