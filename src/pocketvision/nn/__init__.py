"""Building blocks: each frozen specification beside the one module it builds."""
