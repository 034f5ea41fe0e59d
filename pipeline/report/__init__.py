"""The report: one self-contained page per product version. Reads product files, writes HTML."""
