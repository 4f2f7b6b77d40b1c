"""What happens in memory: a run, built and trained."""

from scs_jax.train.loop import *  # noqa: F403
from scs_jax.train.loop import as_float, evaluate_checkpoint, trained_model, train_and_evaluate, make_train_step, make_eval_step, split_model, NonFiniteError, guesses, State
