"""Fine-tuning a network of the package on another data set."""
