"""Cubes, ledger and publishing on any fsspec URL. Knows Zarr, knows nothing of emissions."""
