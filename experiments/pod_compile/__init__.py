"""What does the TPU compiler report for the training step on a pod?"""
