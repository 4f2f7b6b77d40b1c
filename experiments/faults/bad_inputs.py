"""Inputs that are wrong, and the words that the answer must have: what it was, and what to do."""

QUICK = ('--config=configs/quickstart.py', '--workdir=DIR')


def _set(**values):
  return (*QUICK, *(f'--config.{key.replace("__", ".")}={value}' for key, value in values.items()))


def _op(call):
  return (
    'import jax, jax.numpy as jnp, scs_jax; from flax import nnx; '
    'x = jnp.ones((2, 8, 8, 3)); k = jnp.ones((3, 3, 3, 4)); '
    f'f = scs_jax.sharpened_cosine_similarity; L = scs_jax.nnx.SharpenedCosineSimilarity; {call}'
  )


# Tables: a case is a row, so the formatter leaves them alone.
_COMMAND_LINE = {
  'no config': (('--workdir=DIR',), ('--config',)),
  'no workdir': (('--config=configs/quickstart.py',), ('--workdir',)),
  'config that is not there': (('--config=configs/no.py', '--workdir=DIR'), ('configs/no.py',)),
  'misspelt key': (_set(batch_siz='64'), ('batch_siz',)),
  'text for a number': (_set(batch_size='many'), ('many',)),
  'unknown mode': ((*QUICK, '--mode=tain'), ('tain',)),
  'words left over': ((*QUICK, 'extra'), ('extra',)),
  'evaluate nothing': ((*QUICK, '--mode=eval'), ('holds no run', 'train first')),
  'network that is not in the gallery': (
    ('--config=configs/gallery.py:resnet', '--workdir=DIR'), ('resnet', 'fashion_90_3423'),
  ),
  'network that is not in cifar10.py': (
    ('--config=configs/cifar10.py:resnet21', '--workdir=DIR'), ('resnet21', 'resnet20'),
  ),
  'workdir of an unset variable': (
    ('--config=configs/quickstart.py', '--workdir='), ("--workdir is ''", 'name a folder'),
  ),
  'workdir under a file': (
    ('--config=configs/quickstart.py', '--workdir=/dev/null/run'), ('/dev/null/run', 'written'),
  ),
}  # fmt: skip
_CONFIG = {
  'batch of 0': (_set(batch_size=0), ('batch_size', '0')),
  'negative batch': (_set(batch_size=-8), ('batch_size', '-8')),
  'no epochs': (_set(total_epochs=0.0), ('total_epochs', 'greater than 0')),
  'negative epochs': (_set(total_epochs=-1.0), ('total_epochs', '-1')),
  'never evaluated': (_set(eval_every_epochs=0), ('eval_every_epochs', '0')),
  'never saved': (_set(save_every_epochs=0), ('save_every_epochs', '0')),
  'never logged': (_set(log_every_steps=0), ('log_every_steps', '0')),
  'no checkpoint kept': (_set(keep_latest=0), ('keep_latest', '0')),
  'evaluation batch of 0': (_set(eval_batch_size=0), ('eval_batch_size', '0')),
  'negative rollbacks': (_set(rollbacks=-1), ('rollbacks', '-1')),
  'unknown policy': (_set(on_save_error='stopp'), ('stopp', "'stop'")),
  'no patience': (_set(stall_seconds=0.0), ('stall_seconds', 'greater than 0')),
  'unknown objective': (_set(objective='clasification'), ("'classification'",)),
  'smoothing of 1': (_set(label_smoothing=1.0), ('label_smoothing', '[0, 1)')),
  'average of 1': (_set(ema_decay=1.0), ('ema_decay', '[0, 1)')),
  'unknown optimizer': (_set(optimizer__name='adam'), ("'adam'", 'adamw')),
  'unknown schedule': (_set(optimizer__schedule__name='onecycle'), ("'one_cycle'",)),
  'momentum of 1': (_set(optimizer__momentum=1.0), ('optimizer.momentum', '[0, 1)')),
  'negative decay': (_set(optimizer__weight_decay=-0.1), ('optimizer.weight_decay', '-0.1')),
  'negative multiplier': (_set(optimizer__p_multiplier=-1.0), ('optimizer.p_multiplier', '-1')),
  'clip at 0': (_set(optimizer__clip_norm=0.0), ('optimizer.clip_norm', 'positive')),
  'unknown model': (_set(model__name='scsnet'), ("'scs_net'",)),
  'unknown variant': (_set(model__variant='cnv'), ("'conv'",)),
  'unknown p mode': (_set(model__p_mode='per_kernal'), ("'per_kernel'",)),
  'p of 0': (_set(model__p_init=0.0), ('p_init', 'positive')),
  'negative q': (_set(model__q_init=-1.0), ('q_init', 'positive')),
  'mesh that does not fit': (_set(mesh__data=7), ('mesh', 'data=7', 'devices')),
  'mesh filled twice': (_set(mesh__data=-1, mesh__fsdp=-1), ('mesh', '-1')),
  'mesh of 0': (_set(mesh__fsdp=0), ('mesh', '0')),
}
_DATA = {
  'unknown data set': (_set(data__name='mnist5kk'), ("name='mnist5kk'", 'mnist5k')),
  'not prepared': (_set(data__name='svhn_cropped', data__data_dir='DIR'), ('tfds build',)),
  'unknown split': (_set(data__train_split='trian'), ("split='trian'", 'train')),
  'empty split': (_set(data__train_split='train[:0]'), ('empty',)),
  'split beyond the end': (_set(data__eval_split='test[5000:]'), ('test[5000:]',)),
  'negative seed': (_set(seed=-1), ('seed', '-1')),
  'negative shift': (_set(augment__shift=-1), ('shift', '-1')),
  'negative rotation': (_set(augment__rotate=-5.0), ('rotate', '-5')),
  'negative cutout': (_set(augment__cutout=-3), ('cutout', '-3')),
  'shift of the whole image': (_set(augment__shift=28), ('shift', '28')),
  'cutout larger than the image': (_set(augment__cutout=29), ('cutout', '29')),
}
_OPS = {
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
  'pool of another rank': (_op('scs_jax.abs_max_pool(x, (2,))'), ('window',)),
  'layer with unknown mode': (_op("L(3, 4, (3, 3), p_mode='all', rngs=nnx.Rngs(0))"), ('p_mode',)),
  'layer with unknown output': (
    _op("L(3, 4, (3, 3), output='units', rngs=nnx.Rngs(0))"), ("'unit'",)
  ),
  'layer with groups that do not divide': (
    _op('L(3, 4, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))'), ('feature_group_count',),
  ),
  'layer without features': (_op('L(3, 0, (3, 3), rngs=nnx.Rngs(0))'), ('out_features', '0')),
  'attention with other heads': (
    _op('a = jnp.ones((1, 4, 2, 8)); scs_jax.sharpened_cosine_attention(a, a[:, :, :1], a)'),
    ('key',),
  ),
}  # fmt: skip
CATALOGUE = {
  f'{group}: {name}': case
  for group, cases in (
    ('command line', _COMMAND_LINE), ('config', _CONFIG), ('data', _DATA), ('ops', _OPS)
  )
  for name, case in cases.items()
}  # fmt: skip
