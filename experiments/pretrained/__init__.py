"""Which networks come with the package? `python -m experiments.pretrained`."""
