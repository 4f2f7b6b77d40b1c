"""How long does a new picture take in the explorer? `python -m experiments.explorer`."""
