"""How few parameters are enough? `python -m experiments.records`."""
