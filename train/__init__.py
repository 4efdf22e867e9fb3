"""The ImageNet trainer: arguments, models and data on Chainer's Trainer.

Nothing here knows how memory is managed: ``train_imagenet.py --ooc`` puts a
:class:`swapmem.Manager` around the training, and that is all.
"""

# Chainer 7.8.1 runs on today's NumPy only with these shims, and only if they come before it.
# Importing any module of this package passes here first.
import swapmem.chainer.compat  # noqa: F401
