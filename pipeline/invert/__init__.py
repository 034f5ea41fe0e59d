"""The inversion: what is believed before, what the columns say, and the members that hold both."""
