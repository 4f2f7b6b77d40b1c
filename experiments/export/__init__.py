"""Do exported networks compute the same elsewhere? `python -m experiments.export`."""
