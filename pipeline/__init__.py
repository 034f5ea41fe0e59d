"""CarbonCube: gridded monthly CO2 emissions of China from satellite columns, with uncertainty."""

__version__ = "0.1.0"
