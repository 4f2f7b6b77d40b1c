"""Experiments: one folder a question, one command a folder.

Type commands in the root of the clone, e.g. `python -m experiments.reproduce --row=mnist_smoke
--workdir=DIR`. Each folder has a README with its question, answer and command. `results.py` and
`flags.py` are shared by all.
"""
