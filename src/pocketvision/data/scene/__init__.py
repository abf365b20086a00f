"""Hyperspectral scenes: files to cubes and labels, bands reduced, pixels split without leaks."""
