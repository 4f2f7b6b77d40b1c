"""Inputs that are wrong: each must be answered by one line with argument, value and remedy.

python -m experiments.faults.bad_inputs      tries all that one process can try
python -m experiments.faults.bad_inputs 4    tries every fourth of them, and one of each kind

`python -m experiments.faults --only=bad_inputs` also tries those that need an environment of their
own, each in a process.
"""

import contextlib
import functools
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import flags

from scs_jax import data
from scs_jax.errors import UserError

QUICK = ('--config=configs/quickstart.py', '--workdir=DIR/run')

# ------------------------------------------------------------------------------------- The config
# KEY=WORD | REMEDY. The answer must also have the key's last part, and the word or its value.
# A line may set further keys first.

VALUES = """
seed=-1                               | at least 0 and below 2**63
seed=9223372036854775808              | at least 0 and below 2**63
seed=0.5                              | a whole number
seed=1e5                              | a whole number
seed=None                             | a whole number
seed=                                 | a whole number
batch_size=0                          | in [1, 1048576]
batch_size=-8                         | in [1, 1048576]
batch_size=1000000000                 | in [1, 1048576]
batch_size=63                         | use 56 or 64
batch_size=3                          | use 8
batch_size=many                       | a whole number
batch_size=6.5                        | a whole number
batch_size=64.0                       | a whole number
batch_size=True                       | a whole number
batch_size=None                       | a whole number
batch_size=                           | a whole number
batch_size=0x40                       | a whole number
batch_size=(64,)                      | a whole number
eval_batch_size=0                     | at least 1
eval_batch_size=-1                    | at least 1
eval_batch_size=1.5                   | a whole number
total_epochs=0                        | greater than 0
total_epochs=-1                       | greater than 0
total_epochs=inf                      | a finite number
total_epochs=-inf                     | a finite number
total_epochs=nan                      | a finite number
total_epochs=1/3                      | a number
total_epochs=None                     | a number
total_epochs=ten                      | a number
total_epochs=1e12                     | train less
total_epochs=True                     | a number
eval_every_epochs=0                   | at least 1e-06
eval_every_epochs=-0.5                | at least 1e-06
eval_every_epochs=nan                 | a finite number
eval_every_epochs=half                | a number
save_every_epochs=0                   | at least 1e-06
save_every_epochs=inf                 | a finite number
log_every_steps=0                     | at least 1
log_every_steps=0.5                   | a whole number
log_every_steps=-100                  | at least 1
keep_latest=0                         | at least 1
keep_latest=None                      | a whole number
keep_best=-1                          | at least 0
rollbacks=-1                          | at least 0
rollbacks=1.5                         | a whole number
on_save_error=stopp                   | did you mean 'stop'?
on_save_error=None                    | 'stop' or 'continue'
stall_seconds=0                       | in (0, 1000000000]
stall_seconds=-1                      | in (0, 1000000000]
stall_seconds=1e12                    | in (0, 1000000000]
stall_seconds=nan                     | a finite number
objective=clasification               | did you mean 'classification'?
objective=                            | 'classification' or 'reconstruction'
objective=reconstruction              | change the model or the objective
label_smoothing=1                     | in [0, 1)
label_smoothing=-0.1                  | in [0, 1)
label_smoothing=0.99999999999         | also as float32
label_smoothing=nan                   | a finite number
label_smoothing=a                     | a number
objective=reconstruction label_smoothing=0.1 | set it to 0
ema_decay=1                           | in [0, 1) or None
ema_decay=-0.1                        | in [0, 1) or None
ema_decay=inf                         | a finite number
ema_decay=off                         | a number
ema_decay=0.9999999999                | also as float32
optimizer.name=adma                   | did you mean 'adamw'?
optimizer.name=None                   | 'adamw' or 'sgd'
optimizer.name=                       | 'adamw' or 'sgd'
optimizer=sgd                         | a group of keys
optimizer={'nam':'sgd'}               | the nearest is 'optimizer.name'
optimizer=[1]                         | a group of keys
optimizer.schedule=cosine             | a group of keys
optimizer.schedule.name=onecycle      | did you mean 'one_cycle'?
optimizer.schedule.name=cosine        | set it to None
optimizer.schedule.name=constant      | set it to None
optimizer.schedule.peak_learning_rate=0     | greater than 0
optimizer.schedule.peak_learning_rate=-0.1  | greater than 0
optimizer.schedule.peak_learning_rate=inf   | a finite number
optimizer.schedule.peak_learning_rate=nan   | a finite number
optimizer.schedule.peak_learning_rate=None  | a number
optimizer.schedule.peak_learning_rate=0,1   | a number
optimizer.schedule.peak_learning_rate=1e-50 | also as float32
optimizer.schedule.peak_learning_rate=1e50  | also as float32
optimizer.schedule.warmup_fraction=1        | in [0, 1) or None
optimizer.schedule.warmup_fraction=-0.1     | in [0, 1) or None
optimizer.schedule.warmup_fraction=30%      | a number
optimizer.momentum=1                  | in [0, 1)
optimizer.momentum=-0.1               | in [0, 1)
optimizer.momentum=None               | a number
optimizer.cycle_momentum_to=1         | in [0, 1) or None
optimizer.cycle_momentum_to=-1        | in [0, 1) or None
optimizer.weight_decay=-0.1           | at least 0
optimizer.weight_decay=inf            | a finite number
optimizer.weight_decay=None           | a number
optimizer.p_weight_decay=-1           | at least 0
optimizer.q_weight_decay=nan          | a finite number
optimizer.p_multiplier=-1             | at least 0
optimizer.q_multiplier=-inf           | a finite number
optimizer.clip_norm=0                 | greater than 0 or None
optimizer.clip_norm=-1                | greater than 0 or None
optimizer.clip_norm=nan               | a finite number
mesh.data=0                           | must be positive
mesh.data=-2                          | at least -1
mesh.data=7                           | -1 takes what is left
mesh.data=1.5                         | a whole number
mesh.fsdp=0                           | must be positive
mesh.fsdp=16                          | -1 takes what is left
mesh.fsdp=-1                          | one may be -1
mesh.fsdp=None                        | a whole number
mesh=8                                | a group of keys
augment.shift=-1                      | at least 0
augment.shift=0.5                     | a whole number
augment.shift=28                      | below the height and width
augment.flip=yes                      | true or false
augment.flip=2                        | true or false
augment.flip=None                     | true or false
augment.rotate=181                    | in [0, 180]
augment.rotate=-5                     | in [0, 180]
augment.rotate=nan                    | a finite number
augment.translate=1.01                | in [0, 1]
augment.translate=-0.1                | in [0, 1]
augment.scale=1.1                     | two numbers (smallest, largest)
augment.scale=(1.2,0.8)               | two numbers (smallest, largest)
augment.scale=(0.0,1.0)               | two numbers (smallest, largest)
augment.scale=(0.9,1.0,1.1)           | two numbers (smallest, largest)
augment.scale=(0.9,1.1                | two numbers (smallest, largest)
augment.scale=(0.9,'a')               | two numbers (smallest, largest)
augment.scale=0.9;1.1                 | two numbers (smallest, largest)
augment.scale=None                    | two numbers (smallest, largest)
augment.shear=90                      | in [0, 90)
augment.shear=-1                      | in [0, 90)
augment.cutout=-3                     | at least 0
augment.cutout=29                     | at most the height and width
augment.cutout=2.5                    | a whole number
augment={'shfit':1}                   | the nearest is 'augment.shift'
augment=None                          | a group of keys
data.name=                            | not empty
data.name=mnist5kk                    | mnist5k
data.name=cifar                       | cifar10
data.name=mnist:9.9.9                 | NAME:VERSION
data.name=../etc/passwd               | NAME:VERSION
data.name=nowhere:load                | add that folder to PYTHONPATH
data.name=my_data:laod                | did you mean 'load'?
data.name=my_dat:load                 | did you mean 'my_data'?
data.name=my_data.py:load             | write 'my_data:load'
data.name=my-data:load                | is not MODULE:NAME
data.name=:load                       | write 'my_module:load'
data.name=my_data:nothing             | a function of the split alone
data.name=my_data:number              | a function of the split
data.name=my_data:text                | Return Examples(
data.train_split=                     | not empty
data.train_split=trian                | 'train'
data.train_split=train[:0]            | empty
data.train_split=train[               | Write for example
data.train_split=train[90%:80%]       | empty
data.eval_split=test[5000:]           | 'test': 1000
data.eval_split=test+tset             | 'test': 1000
data.resolution=0                     | at least 1 or None
data.resolution=-32                   | at least 1 or None
data.resolution=32x32                 | a whole number
data.resolution=32                    | set data.resolution=None
data.workers=-1                       | at least 0
data.workers=two                      | a whole number
data.name=svhn_cropped data.data_dir=/nowhere | tfds build
data.name=svhn_cropped data.data_dir=/dev/null | tfds build
data.data_dir=                        | not empty
model.name=scsnet                     | did you mean 'scs_net'?
model.name=                           | known:
model.name=resnet                     | default('resnet')
model.name=nowhere:Net                | add that folder to PYTHONPATH
model.name=my_nets:MyNett             | did you mean 'MyNet'?
model.name=my_nets:number             | must name an nnx.Module
model.name=my_nets:Lacking            | it lacks num_classes
model.name=my_nets.py:MyNet           | write 'my_nets:MyNet'
model.variant=cnv                     | did you mean 'conv'?
model.output=units                    | did you mean 'unit'?
model.p_mode=per_kernal               | did you mean 'per_kernel'?
model.q_mode=all                      | known: per_kernel, shared, fixed
model.p_init=0                        | a positive number
model.p_init=-1                       | a positive number
model.p_init=inf                      | a finite number
model.p_init=None                     | a number
model.p_init=(1.0,2.0,3.0,4.0)        | for 3 layers
model.q_init=-1                       | a positive number
model.q_init=nan                      | a finite number
model.kernel_q=-1                     | at least 0
model.kernel_q=inf                    | a finite number
model.scale_init=inf                  | a finite number
model.scale_init=big                  | a number
model.center=maybe                    | true or false
model.dtype=float64                   | JAX_ENABLE_X64=1
model.dtype=bfloat17                  | did you mean 'bfloat16'?
model.dtype=int32                     | 'float32' or 'bfloat16'
model.param_dtype=float64             | JAX_ENABLE_X64=1
model.param_dtype=half                | 'float16'
model.stack=()                        | must end with a 'head'
model.stack=head                      | each a dict
model.stack=5                         | each a dict
model.stack=None                      | each a dict
model.stack=({'kind':'head'}          | each a dict
model.stack[0]=5                      | each a dict
model.stack[9].features=4             | is not in
model.stack[0].features=0             | at least 1
model.stack[0].features=-4            | at least 1
model.stack[0].features=few           | a whole number
model.stack[0].features=None          | a whole number
model.stack[0].features=2.5           | a whole number
model.stack[0].fetures=4              | did you mean 'features'?
model.stack[0].window=0               | at least 1
model.stack[0].window=2.5             | an integer
model.stack[0].window=(3,3,3)         | an integer
model.stack[0].strides=0              | at least 1
model.stack[0].strides=x              | an integer
model.stack[0].padding=SAMEE          | 'SAME', 'SAME_LOWER', 'VALID'
model.stack[0].padding=-15            | leaves nothing of images
model.stack[0].p_init=0               | a positive number
model.stack[0].p_init=many            | a positive number
model.stack[0].q_init=-1              | only a fixed q may be 0
model.stack[0].kind=scz               | did you mean 'scs'?
model.stack[0]={'kind':'scs'}         | needs features
model.stack[1].window=0               | at least 1
model.stack[1].kind=again             | needs layer
model.stack[-1].kind=abs              | must end with its only 'head'
"""

# Keys that do not exist: KEY | REMEDY.
UNKNOWN = """
batch_siz                             | the nearest is 'batch_size'
lr                                    | it has seed, data, augment
learning_rate                         | the nearest is 'optimizer.schedule.peak_learning_rate'
optimizer.lr                          | optimizer has name, schedule, momentum
optimizer.schedul.name                | the nearest is 'optimizer.schedule.name'
data.split                            | the nearest is 'data.eval_split'
model.widths                          | model has name, stack, variant
model.stak                            | the nearest is 'model.stack'
"""
# The same for models of the package: MODEL: KEY=WORD | REMEDY.
MODELS = """
resnet: widths=()                     | one entry for each stage
resnet: widths=(4,8)                  | one entry for each stage
resnet: widths=(0,)                   | at least 1
resnet: widths=(4.5,)                 | a whole number
resnet: widths=wide                   | a whole number
resnet: blocks=(-1,)                  | at least 1
resnet: block=basik                   | did you mean 'basic'?
resnet: downsample=strides            | did you mean 'stride'?
resnet: head=flatt                    | did you mean 'flat'?
resnet: large_stem=7                  | true or false
cct: width=0                          | at least 1
cct: width=3                          | must divide
cct: heads=0                          | at least 1
cct: heads=3                          | must divide
cct: depth=-1                         | at least 1
cct: tokeniser=(0,)                   | at least 1
cct: attend=7                         | true or false
convmixer: width=0                    | at least 1
convmixer: depth=-1                   | at least 1
convmixer: window=0                   | at least 1
convmixer: patch=99                   | at most the size of the image
densenet: growth=0                    | at least 1
densenet: layers=(-1,2)               | at least 1
hukkelas: levels=-1                   | at least 1
hukkelas: residual=3                  | true or false
autoencoder: widths=()                | an entry for each layer
autoencoder: widths=(2,2,2)           | use fewer widths
autoencoder: code=0                   | at least 1
autoencoder: objective=classification | change the model or the objective
"""

# ------------------------------------------------------------------------------------ Config files
# The text of get_config's file, and what the answer must have beside the name of the file.

BEGIN = 'from scs_jax.train.config import default\ndef get_config():\n  config = default()\n'
FILES = {
  'open bracket': (f'{BEGIN}  x = (\n  return config\n', ('line 4', 'never closed')),
  'tab': (f'{BEGIN}\treturn config\n', ('line 4', 'TabError')),
  'null byte': ('x = 1\0\n', ('null bytes',)),
  'misspelt key': (f'{BEGIN}  config.batch_siz = 3\n  return config\n', (
    'line 4', "'batch_siz'; did you mean 'batch_size'?")),
  'misspelt group': (f'{BEGIN}  config.optimiser.name = 3\n', (
    'line 4', "'optimiser'", '--help lists all')),
  'misspelt inner key': (f'{BEGIN}  config.data.nam = "fake"\n', (
    'line 4', "did you mean 'data.name'?")),
  'text for a number': (f'{BEGIN}  config.batch_size = "many"\n  return config\n', (
    'line 4', 'batch_size', 'many', 'int')),
  'fraction for a whole number': (f'{BEGIN}  config.batch_size = 0.5\n', (
    'line 4', 'batch_size', '0.5', 'int')),
  'number for a group': (f'{BEGIN}  config.mesh = 8\n', ('line 4', 'mesh', '8')),
  'key that is read': (f'{BEGIN}  x = config.learning_rate\n', (
    'line 4', "'optimizer.schedule.peak_learning_rate'?")),
  'unknown model': ('from scs_jax.train.config import default\nx = default("scsnet")\n', (
    'line 2', "did you mean 'scs_net'?")),
  'exception': ('def get_config():\n  return 1 / 0\n', ('line 2', 'ZeroDivisionError')),
  'exception in a helper': ('def get_config():\n  return helper()\ndef helper():\n  {}["a"]\n', (
    'line 4', "KeyError: 'a'")),
  'endless recursion': ('def get_config():\n  return get_config()\n', (
    'line 2', 'RecursionError')),
  'exit': ('import sys\nsys.exit(3)\n', ('line 2', 'SystemExit')),
  'absent import': ('import nothing_there\n', ('line 1', "No module named 'nothing_there'")),
  'no function': ('config = 3\n', ('has no function get_config()',)),
  'no callable': ('get_config = 3\n', ('has no function get_config()',)),
  'two arguments': ('def get_config(a, b): pass\n', ("'a'", ':ARGUMENT')),
  'None': (BEGIN, ('train.config.default()', 'got None')),
  'number': ('def get_config(): return 3\n', ('train.config.default()', 'got 3')),
  'dict': ('def get_config(): return {"seed": 3}\n', ('train.config.default()', "{'seed': 3}")),
  'empty': ('from ml_collections import ConfigDict as get_config\n', ('no model.name',)),
  'key that is gone': (f'{BEGIN}  config.unlock()\n  del config.seed\n  return config\n', (
    'lacks seed', 'train.config.default()')),
  'group that is replaced': (
    f'from ml_collections import ConfigDict\n{BEGIN}  config.unlock()\n'
    '  config.mesh = ConfigDict({"data": 1})\n  return config\n',
    ('lacks mesh.fsdp', 'train.config.default()')),
  'key that is new': (f'{BEGIN}  config.unlock()\n  config.sed = 3\n  return config\n', (
    "'sed'", "the nearest is 'seed'")),
  'no stack': (f'{BEGIN}  return config\n', ('model.stack', 'each a dict', 'None')),
  'no number': (f'{BEGIN}  config = default("resnet")\n  config.total_epochs = 0 * 1e999\n'
    '  return config\n', (
    'total_epochs', 'finite', 'nan')),
}  # fmt: skip
JSON = {
  'no JSON': ('[1', ('cannot be read', 'line 1')),
  'no object': ('3', ('no model.name',)),
  'null': ('null', ('no model.name',)),
  'no model': ('{"seed": 3}', ('no model.name',)),
  'model without name': ('{"model": {"name": 3}}', ('no model.name',)),
  'unknown model': ('{"model": {"name": "resnett"}}', ("did you mean 'resnet'?",)),
  'unknown key': ('{"model": {"name": "resnet"}, "sed": 1}', ("the nearest is 'seed'",)),
  'wrong type': ('{"model": {"name": "resnet"}, "seed": "a"}', ('seed must be a whole number',)),
  'null for a number': ('{"model": {"name": "resnet"}, "seed": null}', ('a whole number',)),
  'out of range': ('{"model": {"name": "resnet"}, "seed": -1}', ('seed must be at least 0', '-1')),
}

# ------------------------------------------------------------------------------------ Command line

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
  'nothing': ((), ('--config and --workdir must be given', '--config=quickstart')),
  'no config': (('--workdir=DIR/run',), ('--config must be given', 'for example')),
  'no workdir': ((QUICK[0],), ('--workdir must be given', 'for example')),
  'empty workdir': ((QUICK[0], '--workdir='), ("--workdir is ''", 'name a folder')),
  'workdir under a file': ((QUICK[0], '--workdir=/dev/null/run'), ('/dev/null/run',)),
  'empty config': (('--config=', QUICK[1]), ('--config= cannot be read',)),
  'absent config': (('--config=configs/quikstart.py', QUICK[1]), (
    'configs/quikstart.py', "did you mean 'configs/quickstart.py'?")),
  'unknown name of a config': (('--config=quikstart', QUICK[1]), (
    "'quikstart'", "did you mean 'quickstart'?")),
  'config that is a folder': (('--config=./configs', QUICK[1]), ('configs is a folder', 'name')),
  'config that is a page': (('--config=README.md', QUICK[1]), ('README.md, line', 'SyntaxError')),
  'config.json that is not there': (('--config=DIR/run/config.json', QUICK[1]), (
    'config.json cannot be read', 'there is no such file')),
  'argument that a config does not take': (('--config=configs/quickstart.py:big', QUICK[1]), (
    'quickstart.py:big', 'leave the colon')),
  'unknown argument of gallery.py': (('--config=configs/gallery.py:resnet', QUICK[1]), (
    "'resnet'", 'fashion_90_3423')),
  'unknown argument of cifar10.py': (('--config=configs/cifar10.py:resnet21', QUICK[1]), (
    "'resnet21'", 'resnet20')),
  'misspelt flag': ((*QUICK, '--wokdir=a'), ('--wokdir', 'did you mean --workdir?')),
  'flag without its group': ((*QUICK, '--batch_size=8'), (
    '--batch_size', 'did you mean --config.batch_size?')),
  'misspelt config': ((*QUICK, '--confg.batch_size=8'), (
    '--confg.batch_size', 'did you mean --config.batch_size?')),
  'unknown flag': ((*QUICK, '--qqq'), ('--qqq', '--help lists all')),
  'flag without its value': ((*QUICK, '--config.batch_size'), ('--config.batch_size', 'alue')),
  'value of a flag that takes none': ((*QUICK, '--noconfig.augment.flip=1'), (
    '--noconfig.augment.flip=1', 'leave out the value')),
  'path that is too long': ((*QUICK, f'--config.data.name=folder:{"x" * 300}'), (
    'folder:xxx', 'cannot be reached (File name too long)')),
  'home of nobody': ((*QUICK, '--config.data.name=folder:~nobody-of-that-name/x'), (
    'folder:~nobody-of-that-name/x', 'does not exist')),
  'arrays in the home of nobody': ((*QUICK, '--config.data.name=npz:~nobody-of-that-name/x'), (
    'npz:~nobody-of-that-name/x', 'does not exist')),
  'no before a number': ((*QUICK, '--noconfig.batch_size'), ('--noconfig.batch_size',)),
  'word that is no flag': ((*QUICK, 'config.batch_size=8'), ("'config.batch_size=8'", 'dashes')),
  'word before the flags': (('train', *QUICK), ("'train'", 'dashes')),
  'unknown mode': ((*QUICK, '--mode=tain'), ('--mode=tain', 'train')),
  'step in training': ((*QUICK, '--step=3'), ('--step=3', 'leave it out')),
  'negative step': ((*QUICK, '--mode=eval', '--step=-1'), ('--step=-1', 'at least 0')),
  'step of no workdir': ((QUICK[0], '--mode=summary', '--step=3'), ('--step=3', '--workdir')),
  'output in training': ((*QUICK, '--output=a.onnx'), ('--output=a.onnx', '--mode=export')),
  'summary of nothing': (('--mode=summary',), ('--mode=summary', '--config or --workdir')),
  'export to nowhere': (('--mode=export', QUICK[1]), ('--output must be given',)),
  'export of nothing': (('--mode=export', QUICK[1], '--output=DIR/a.safetensors'), (
    'is no folder', 'workdir')),
  'data of floats': ((*QUICK, '--config.data.name=my_data:floats'), (
    'images must be uint8', 'my_data.py, line 7')),
  'labels outside the classes': ((*QUICK, '--config.data.name=my_data:outside'), (
    'labels[0]=9', 'choose a split with labels', 'my_data.py, line 8')),
  'stack without a head': ((*QUICK, "--config.model.stack=({'kind': 'scs', 'features': 4},)"), (
    "{'kind': 'scs', 'features': 4}", "must end with its only 'head'")),
  'explorer of nothing': (('--mode=explorer', QUICK[1]), ('holds no run', 'train first')),
  'step that is no number': ((*QUICK, '--mode=eval', '--step=last'), ('--step=last',)),
  'explanation of a network of the package': (
    ('--mode=explain', '--workdir=mnist_1382'), ('mnist_1382', '--mode=explain', 'scs_jax.load'),
  ),
  'evaluation of nothing': ((*QUICK, '--mode=eval'), ('holds no run', 'train first')),
  'pictures of nothing': ((*QUICK, '--mode=pictures'), ('holds no run', 'train first')),
  'distributed that is no boolean': ((*QUICK, '--distributed=2'), ('--distributed=2',)),
}  # fmt: skip

# ------------------------------------------------------------------------------------- From Python


def _op(call: str) -> str:
  return (
    'import jax, jax.numpy as jnp, scs_jax; from flax import nnx; '
    'x = jnp.ones((2, 8, 8, 3)); k = jnp.ones((3, 3, 3, 4)); '
    f'f = scs_jax.sharpened_cosine_similarity; L = scs_jax.nnx.SharpenedCosineSimilarity; {call}'
  )


CALLS = {
  'three dimensions': (_op('f(x[0], k)'), ('x', '(8, 8, 3)')),
  'integers': (_op('f(x.astype(int), k)'), ('x', 'int')),
  'channels that differ': (_op('f(x, k[:, :, :2])'), ('kernel', '3')),
  'window larger than the image': (_op("f(x, jnp.ones((9, 9, 3, 4)), padding='VALID')"), ('9',)),
  'p of 0': (_op('f(x, k, p=0.0)'), ('p', '0')),
  'negative p': (_op('f(x, k, p=-1.0)'), ('p', '-1')),
  'p of another size': (_op('f(x, k, p=jnp.ones(3))'), ('p', '3', '4')),
  'negative q': (_op('f(x, k, q=-0.1)'), ('q', '-0.1')),
  'strides of 0': (_op('f(x, k, strides=0)'), ('strides', '0')),
  'three strides': (_op('f(x, k, strides=(1, 1, 1))'), ('strides', '(1, 1, 1)')),
  'unknown padding': (_op("f(x, k, padding='SAMEE')"), ('padding', 'SAMEE')),
  'groups that do not divide': (_op('f(x, k, feature_group_count=2)'), ('feature_group_count',)),
  'unknown method': (_op("f(x, k, method='convolutoin')"), ("'convolution'",)),
  'dilation of 0': (_op('f(x, k, kernel_dilation=0)'), ('kernel_dilation', '0')),
  'pool window of 0': (_op('scs_jax.abs_max_pool(x, (0, 2))'), ('window', '0')),
  'pool of another rank': (_op('scs_jax.abs_max_pool(x, (2, 2, 2, 2))'), ('window',)),
  'layer with unknown mode': (_op("L(3, 4, (3, 3), p_mode='all', rngs=nnx.Rngs(0))"), ('p_mode',)),
  'layer with unknown output': (
    _op("L(3, 4, (3, 3), output='units', rngs=nnx.Rngs(0))"), ("'unit'",)
  ),
  'layer with groups that do not divide': (
    _op('L(3, 4, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))'), ('feature_group_count',),
  ),
  'layer without features': (_op('L(3, 0, (3, 3), rngs=nnx.Rngs(0))'), ('out_features', '0')),
  'layer with features in words': (
    _op("L(3, 'four', (3, 3), rngs=nnx.Rngs(0))"), ('out_features', "'four'"),
  ),
  'attention with other heads': (
    _op('a = jnp.ones((1, 4, 2, 8)); scs_jax.sharpened_cosine_attention(a, a[:, :, :1], a)'),
    ('key',),
  ),
  'load a folder that is not there': (
    "import scs_jax; scs_jax.load('/misspelt')", ("'/misspelt' is no folder", 'workdir'),
  ),
  'load a folder that is no workdir': (
    "import scs_jax; scs_jax.load('/dev')", ("'/dev' holds no run", 'workdir'),
  ),
  'experiment of a dict': (
    "from scs_jax import train; train.Experiment({'seed': 0})", ('train.config.default()',),
  ),
  'experiment of nothing': (
    'from scs_jax import train; train.Experiment(None)', ('train.config.default()', 'None'),
  ),
}  # fmt: skip

# ---------------------------------------------------------------------- Environments of their own
# The environment, the words, and what the answer must have. Each must come within ten seconds.

ENVIRONMENTS: dict[str, tuple[Mapping[str, str], tuple[str, ...], tuple[str, ...]]] = {
  'distributed on a laptop': ({}, (*QUICK, '--distributed'), ('--distributed', 'leave it out')),
  'no CUDA': ({'JAX_PLATFORMS': 'cuda'}, QUICK, ("JAX_PLATFORMS='cuda'", 'unset the variable')),
  'no TPU': ({'JAX_PLATFORMS': 'tpu'}, QUICK, ("JAX_PLATFORMS='tpu'", 'unset the variable')),
  'no platform': ({'JAX_PLATFORMS': 'gpux'}, QUICK, ("JAX_PLATFORMS='gpux'", 'unset')),
  **{
    name: (
      {
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_NUM_PROCESSES': count,
        'JAX_PROCESS_ID': index,
      },
      QUICK,
      said,
    )
    for name, address, count, index, said in (
      ('unknown coordinator', 'nowhere.invalid:1234', '2', '1', ('nowhere.invalid:1234',)),
      ('unknown coordinator of process 0', 'nowhere.invalid:1234', '2', '0', ('this machine',)),
      ('silent coordinator', 'localhost:1', '2', '1', ('localhost:1', 'start process 0 first')),
      ('coordinator without port', 'localhost', '2', '1', ("'localhost'", 'HOST:PORT')),
      ('coordinator of another port', 'localhost:99999', '2', '1', ('HOST:PORT',)),
      ('count in words', 'localhost:1', 'two', '1', ("'two'", 'must be numbers')),
      ('no process id', 'localhost:1', '2', '', ('JAX_PROCESS_ID', 'must be numbers')),
      ('process id too large', 'localhost:1', '2', '2', ('JAX_PROCESS_ID=2', 'count from 0')),
    )
  },
}

# ------------------------------------------------------------------------------------ The attempts

MY_DATA = """
import numpy as np
from scs_jax.data import Examples
number = 3
def text(split): return 'images'
def load(split): return Examples(np.zeros((8, 8, 8, 1), np.uint8), np.zeros(8, np.int32), 2)
def floats(split): return Examples(np.zeros((8, 8, 8, 1)), np.zeros(8, np.int32), 2)
def outside(split): return Examples(np.zeros((8, 8, 8, 1), np.uint8), np.full(8, 9, np.int32), 2)
def nothing(): return Examples(np.zeros((8, 8, 8, 1), np.uint8), np.zeros(8, np.int32), 2)
"""
MY_NETS = """
from flax import nnx
number = 3
class MyNet(nnx.Module):
  def __init__(self, input_shape, num_classes, *, rngs): pass
class Lacking(nnx.Module):
  def __init__(self, input_shape, *, rngs): pass
"""


def write_modules(folder: pathlib.Path) -> None:
  """Writes the user's own modules that some of the inputs name."""
  (folder / 'my_data.py').write_text(MY_DATA)
  (folder / 'my_nets.py').write_text(MY_NETS)


def quick(folder: pathlib.Path, every: int = 1) -> dict[str, str]:
  """Tries what one process can try.

  Args:
    folder: gets the files of the inputs.
    every: one input in so many is tried, from the first of each kind on.

  Returns:
    The name of each input, and what is wrong with its answer: '' if nothing is.
  """
  write_modules(folder)
  sys.path.insert(0, str(folder))
  found = {}
  kept = [data.load('mnist5k', split) for split in ('train', 'test')]  # for all inputs
  for name, words, said in chosen(list(command_lines(folder)), every):
    typed = [word.replace('DIR', str(folder)) for word in words]
    found[name] = _wrong(functools.partial(_main, typed), said)
    if (folder / 'run').exists():
      found[name] += ' It left a workdir behind.'
      shutil.rmtree(folder / 'run')
  for name, (code, said) in chosen(list(CALLS.items()), every):
    found[f'call: {name}'] = _wrong(functools.partial(exec, code, {}), said)
  del kept
  return found


def chosen(cases: Sequence[Any], every: int) -> list[Any]:
  """Returns one in so many of the cases of each kind, from the first on.

  A key of the config is a kind, and so is the other text before a colon: each call is its own.
  """
  seen: dict[str, int] = {}
  kept = []
  for case in cases:
    kind = re.findall(r'^config: [\w.]+|^[^:]+', case[0])[0]
    if seen.setdefault(kind, 0) % every == 0:
      kept.append(case)
    seen[kind] += 1
  return kept


Case = tuple[str, tuple[str, ...], tuple[str, ...]]


def command_lines(folder: pathlib.Path) -> Iterator[Case]:
  """Yields the name of each input of the command line, its words, and those of its answer.

  Args:
    folder: gets the config files.
  """
  for name, (words, said) in COMMANDS.items():
    yield f'command line: {name}', words, said
  for line in VALUES.strip().splitlines():
    yield _case(line, QUICK[0])
  for line in UNKNOWN.strip().splitlines():
    key, remedy = map(str.strip, line.split('|'))
    yield f'config: {line}', (*QUICK, f'--config.{key}=1'), (key, remedy)
  for line in MODELS.strip().splitlines():
    model, _, rest = line.partition(': ')
    file = folder / f'{model}.py'
    file.write_text(
      f'{BEGIN}  config = default({model!r})\n  config.objective = '
      f'{"reconstruction" if model == "autoencoder" else "classification"!r}\n  return config\n'
    )
    yield _case(rest if rest.startswith('objective') else f'model.{rest}', f'--config={file}')
  for kind, files in (('py', FILES), ('json', JSON)):
    for name, (text, said) in files.items():
      file = folder / f'{name.replace(" ", "_")}.{kind}'
      file.write_text(text)
      yield f'config file: {name}', (f'--config={file}', QUICK[1]), said


def _case(line: str, config: str) -> Case:
  typed, remedy = map(str.strip, line.split('|'))
  assignments = typed.split()
  key, _, word = assignments[-1].partition('=')
  argument = {'model.name': 'model', 'data.train_split': 'split', 'data.eval_split': 'split'}.get(
    key, key.partition('[')[0].rpartition('.')[2]
  )
  short = '--config.total_epochs=0.1'  # should it be accepted after all
  words = (config, QUICK[1], short, *(f'--config.{each}' for each in assignments))
  return f'config: {line}', words, (remedy, argument, word)


def _main(words: list[str]) -> None:
  from scs_jax import main

  flags.FLAGS.unparse_flags()  # what the input before has set
  main.main(main.parse(['main', *words]))


def _wrong(attempt: Callable[[], Any], said: Sequence[str]) -> str:
  """Returns what is wrong with the answer to an attempt, or ''."""
  from scs_jax import command

  output = io.StringIO()
  try:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
      command.parsed(lambda _: attempt(), [])
  except UserError as error:
    answer = command.one_line(error)
  except (Exception, SystemExit):
    return traceback.format_exc(limit=-2)
  else:
    return 'It was accepted.'
  if output.getvalue():
    return f'There is noise before the answer: {output.getvalue()}'
  return missing(answer, said)


def missing(answer: str, said: Sequence[str]) -> str:
  """Returns what an answer lacks of the words it must have, or ''; a number may be a fraction."""
  told = answer.replace(' ', '')
  lacks = [
    word
    for word in said
    if word.replace(' ', '') not in told and not (_is_number(word) and str(float(word)) in told)
  ]
  return f'{answer!r} lacks {lacks}' if lacks or '\n' in answer else ''


def _is_number(word: str) -> bool:
  return re.fullmatch(r'-?[\d.]+(e\d+)?', word) is not None


if __name__ == '__main__':
  os.environ['JAX_NUM_CPU_DEVICES'] = '8'  # a batch of 63 does not divide by 8
  jax.config.update('jax_num_cpu_devices', 8)
  with tempfile.TemporaryDirectory() as place:
    answers = quick(pathlib.Path(place), int(sys.argv[1]) if sys.argv[1:] else 1)
  wrong = {name: answer for name, answer in answers.items() if answer}
  print(json.dumps({'inputs': len(answers), 'not answered well': wrong}, indent=1))
  sys.exit(bool(wrong))
