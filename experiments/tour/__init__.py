"""A notebook that shows what the package does."""
