"""Files and arrays to samples; knows no network."""
