"""The product: sectors to 1 km, calibrated uncertainty, totals, and the cubes that are published."""
