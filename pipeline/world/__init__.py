"""The demonstration world: emissions known to the last tonne, weather, and satellites that look at them."""
