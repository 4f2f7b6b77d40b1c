"""Do the published results hold? `python -m experiments.reproduce`."""
