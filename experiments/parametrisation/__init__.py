"""Which map makes p and q positive? `python -m experiments.parametrisation`."""
