"""The contract everyone shares: grids, cube schemas, units, errors. Imports nothing of the project."""
