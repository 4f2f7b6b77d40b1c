"""The architectures side by side. `python -m experiments.zoo`."""
