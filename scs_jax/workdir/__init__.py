"""What happens on disk: the folder of a run."""
