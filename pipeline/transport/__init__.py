"""From winds to source-receptor matrices: the column that emissions leave at a satellite's overpass."""
