"""The main job on hyperspectral scenes: fit a network to pixels, map whole scenes with it."""
