"""Writes small granules in the documented layouts; every value is made up."""

from __future__ import annotations

import h5py
import numpy as np
import rasterio
import xarray as xr
from rasterio.transform import from_origin

FILL = np.float32(9.96921e36)


def swath(lines=40, pixels=30, south=28.0, west=104.0, tilt=0.15, step=0.05):
    """Corner knots of a tilted swath, (lines + 1, pixels + 1)."""
    a, c = np.meshgrid(np.arange(lines + 1), np.arange(pixels + 1), indexing="ij")
    return south + step * a - tilt * step * c, west + 1.3 * step * c + tilt * step * a


def corners(knots):
    return np.stack([knots[:-1, :-1], knots[:-1, 1:], knots[1:, 1:], knots[1:, :-1]], axis=-1)


def _put(group, name, data, units=None, fill=None, **attrs):
    variable = group.create_dataset(name, data=data, compression="gzip" if np.ndim(data) else None)
    if units is not None:
        variable.attrs["units"] = np.bytes_(units)
    if fill is not None:
        variable.attrs["_FillValue"] = np.array([fill], variable.dtype)
    for key, value in attrs.items():
        variable.attrs[key] = value
    return variable


def tropomi_name(day="20220115", orbit=22000, stream="OFFL", version="020400"):
    return f"S5P_{stream}_L2__NO2____{day}T043000_{day}T061130_{orbit:05d}_03_{version}_{day}T120000.nc"


def tropomi(
    path, value=5e-5, precision=1e-5, qa=100, day="2022-01-15", seconds=5.5 * 3600, knots=None, bounds=True,
    declare_fill=True, dated_delta=False, units="mol m-2", orbit=22000,
):  # fmt: skip
    """A TROPOMI L2 NO2 granule; `value`, `precision` and `qa` are numbers or (line, pixel) arrays."""
    lat, lon = swath() if knots is None else knots
    lines, pixels = lat.shape[0] - 1, lat.shape[1] - 1
    shape = (1, lines, pixels)
    lat4, lon4 = corners(lat), (corners(lon) + 180) % 360 - 180
    wide = np.where(np.ptp(lon4, axis=-1) > 180, np.where(lon4 < 0, lon4 + 360, lon4).mean(-1), lon4.mean(-1))
    fill = FILL if declare_fill else None
    with h5py.File(path, "w") as file:
        file.attrs["title"] = np.bytes_("TROPOMI/S5P NO2 1-Orbit L2 Swath")
        file.attrs["processor_version"] = np.bytes_("2.4.0")
        file.attrs["orbit"] = np.array([orbit], np.int32)
        product = file.create_group("PRODUCT")
        _put(product, "latitude", lat4.mean(-1)[None].astype("f4"), "degrees_north", fill)
        _put(product, "longitude", ((wide + 180) % 360 - 180)[None].astype("f4"), "degrees_east", fill)
        for name, data in (("", value), ("_precision", precision)):
            full = np.broadcast_to(np.asarray(data, "f4"), shape[1:])[None]
            _put(product, f"nitrogendioxide_tropospheric_column{name}", full, units, fill)
        quality = np.broadcast_to(np.asarray(qa, "u1"), shape[1:])[None]
        packed = {"scale_factor": np.float32([0.01]), "add_offset": np.float32([0.0])}
        _put(product, "qa_value", quality, "1", 255 if declare_fill else None, **packed)
        start = np.datetime64(day, "s")
        _put(product, "time", np.array([(start - np.datetime64("2010-01-01", "s")).astype(int)], "i4"),
             "seconds since 2010-01-01 00:00:00")  # fmt: skip
        delta = (seconds * 1000 + 840 * np.arange(lines)).astype("i4")[None]
        _put(product, "delta_time", delta, f"milliseconds since {day} 00:00:00" if dated_delta else "milliseconds")
        if bounds:
            place = file.create_group("PRODUCT/SUPPORT_DATA/GEOLOCATIONS")
            _put(place, "latitude_bounds", lat4[None].astype("f4"), fill=fill)
            _put(place, "longitude_bounds", lon4[None].astype("f4"), fill=fill)
    return str(path)


def lite(
    path, lat, lon, xco2, uncertainty=0.5, flag=0, time="2022-01-15T05:40:00", scale_note=None, x2019=None,
    declare="_FillValue", mode=0, platform="OCO-2", kernel=None, build="B11.2.10",
):  # fmt: skip
    """An OCO Lite file; `declare` says which attribute names the fill value, or None."""
    lat, lon = np.atleast_1d(lat).astype("f4"), np.atleast_1d(lon).astype("f4")
    n = lat.size
    stamp = np.datetime64(time, "s") + np.arange(n)
    ids = np.array([int(str(t).translate(str.maketrans("", "", "-T:")) + "31") for t in stamp], "u8")

    def put(file, name, data, units, fill=-999999.0):
        variable = file.create_dataset(name, data=data, compression="gzip")
        variable.attrs["units"] = np.bytes_(units)
        if declare and fill is not None:
            variable.attrs[declare] = np.array([fill], variable.dtype)
        return variable

    full = {
        k: np.broadcast_to(np.asarray(v), n) for k, v in {"x": xco2, "u": uncertainty, "q": flag, "m": mode}.items()
    }
    with h5py.File(path, "w") as file:
        file.attrs["Platform"], file.attrs["BuildId"], file.attrs["title"] = platform, build, "Lite Output"
        file.create_dataset("sounding_id", data=ids)
        put(file, "time", (stamp - np.datetime64("1970-01-01", "s")).astype("f8"), "seconds since 1970-01-01", None)
        put(file, "latitude", lat, "degrees_north")
        put(file, "longitude", lon, "degrees_east")
        variable = put(file, "xco2", full["x"].astype("f4"), "ppm")
        variable.attrs["long_name"] = scale_note or "XCO2"
        if x2019 is not None:
            other = put(file, "xco2_x2019", np.broadcast_to(np.asarray(x2019, "f4"), n), "ppm")
            other.attrs["long_name"] = "Bias-corrected XCO2 on X2019 scale"
        put(file, "xco2_uncertainty", full["u"].astype("f4"), "ppm")
        put(file, "xco2_quality_flag", full["q"].astype("i1"), "none", np.int8(127))
        levels = np.linspace(5, 1000, 20, dtype="f4")
        put(file, "pressure_levels", np.tile(levels, (n, 1)), "hPa")
        put(file, "pressure_weight", np.full((n, 20), 0.05, "f4"), "none")
        ak = np.linspace(0.3, 1.0, 20) if kernel is None else np.asarray(kernel)
        put(file, "xco2_averaging_kernel", np.tile(ak.astype("f4"), (n, 1)), "none")
        file.create_dataset("Sounding/operation_mode", data=full["m"].astype("i1"))
        file.create_dataset("Sounding/land_fraction", data=np.full(n, 100, "f4"))
    return str(path)


def omi(path, value=2e15, fill=-1.2676506e30, units="molec/cm2", name="ColumnAmountNO2TropCloudScreened"):
    """An OMNO2d grid: rows from the south; a number or (720, 1440)."""
    data = np.broadcast_to(np.asarray(value, "f4"), (720, 1440))
    with h5py.File(path, "w") as file:
        field = file.create_dataset(f"HDFEOS/GRIDS/ColumnAmountNO2/Data Fields/{name}", data=data, compression="gzip")
        field.attrs["Units"] = np.bytes_(units)
        field.attrs["_FillValue"] = np.array([fill], "f4")
    return str(path)


def era5(path, times, layers, lat=None, lon=None, new=True, packed=False, expver=None, engine=None):
    """An ERA5 file. `layers`: name -> (units, array over (time, [expver], lat, lon) or a number)."""
    lat = np.arange(62, 9.9, -0.25) if lat is None else np.asarray(lat)
    lon = np.arange(66, 143.1, 0.25) if lon is None else np.asarray(lon)
    dim = "valid_time" if new else "time"
    dims = (dim, *(["expver"] if expver is not None else []), "latitude", "longitude")
    times = np.array(times, "datetime64[ns]")
    sizes = (times.size, *([len(expver)] if expver is not None else []), lat.size, lon.size)
    variables, encoding = {}, {}
    for name, (units, data) in layers.items():
        variables[name] = (dims, np.broadcast_to(np.asarray(data, "f4"), sizes).copy(), {"units": units})
        if packed:
            low, high = np.nanmin(data), np.nanmax(data)
            scale = max((high - low) / 65000, 1e-6)
            encoding[name] = {"dtype": "int16", "scale_factor": scale, "add_offset": (high + low) / 2,
                              "_FillValue": np.int16(-32767)}  # fmt: skip
    coords = {dim: times, "latitude": lat.astype("f8"), "longitude": lon.astype("f8")}
    if expver is not None:
        coords["expver"] = np.array(expver, "i4")
    ds = xr.Dataset(variables, coords)
    if new:
        ds = ds.assign_coords(number=0)
        encoding[dim] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
        engine = engine or "h5netcdf"
        encoding |= {name: {**encoding.get(name, {}), "compression": "gzip"} for name in layers}
    else:
        encoding[dim] = {"units": "hours since 1900-01-01 00:00:00.0", "dtype": "int32"}
        engine = engine or "scipy"
    ds.to_netcdf(path, engine=engine, encoding=encoding)
    return str(path)


def tiff(path, data, west, north, step, nodata=None, crs="EPSG:4326"):
    """A single-band GeoTIFF, rows from the north."""
    data = np.asarray(data)
    with rasterio.open(
        path, "w", driver="GTiff", height=data.shape[0], width=data.shape[1], count=1, dtype=data.dtype,
        crs=crs, transform=from_origin(west, north, step, step), nodata=nodata, compress="deflate", tiled=True,
        blockxsize=128, blockysize=128,
    ) as file:  # fmt: skip
        file.write(data, 1)
    return str(path)
