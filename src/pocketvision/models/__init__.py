"""Networks as data: one paper, one file."""
