"""Does SCS reach 99 % on MNIST with about 3,000 parameters? `python -m experiments.first_claim`."""
