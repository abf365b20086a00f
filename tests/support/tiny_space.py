"""A search space whose networks train in no time, as a user would write it."""

TINY_SPACE = """
name = "tiny"
stem = 8
last = 32
hidden = 32
resolutions = [32]

[[stages]]
c_out = 8
stride = 2
depths = [1, 2]
kernels = [3, 5]

[[stages]]
c_out = 16
stride = 2
depths = [1, 2]
expansions = [2.0, 3.0]
"""

# One block, of three kernels.
ONE_STAGE = """
name = "tiny"
last = 16
hidden = 8
resolutions = [32]
[[stages]]
c_out = 16
stride = 2
depths = [1]
kernels = [3, 5, 7]
expansions = [1.0]
attention = [false]
acts = ["relu"]
"""
