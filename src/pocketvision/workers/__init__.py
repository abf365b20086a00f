"""Independent scorings by processes, here or on a cluster."""
