"""The schema of every measured figure: what the report, the model card and `verify` read.

Fractions are 0..1 (accuracy, agreement); names carry their unit otherwise. A record holds figures
only; how they were obtained is the business of the floors above.
"""
