"""Cases of functions of single elements, of shapes and indexes, arithmetic and linear algebra."""

from __future__ import annotations

import chainer
import numpy as np
from case_table import IMAGES, MATRICES, VECTORS, F, booleans, case, floats, ints, plain, rng

plain(
    "absolute arccos arcsin arctan arctanh argmax argmin average batch_l2_norm_squared ceil "
    "clipped_relu cos cosh crelu cumprod cumsum digamma dropout elu erf erfc erfcinv erfcx "
    "erfinv exp expm1 fix flatten fliplr flipud floor hard_sigmoid identity leaky_relu lgamma log "
    "log10 log1p log2 log_ndtr log_softmax logsumexp max mean min ndtr ndtri normalize relu relu6 "
    "rrelu rsqrt selu separate sigmoid sign sin sinh softmax softplus sqrt square sum tan tanh "
    "transpose",
    IMAGES,
)
plain(
    "absolute_error add arctan2 bernoulli_nll broadcast fmod gaussian gaussian_kl_divergence "
    "maximum mean_absolute_error mean_squared_error minimum squared_difference squared_error "
    "zoneout",
    VECTORS,
    VECTORS,
)
plain("batch_matmul", MATRICES, MATRICES)
plain("gaussian_nll linear_interpolate", VECTORS, VECTORS, VECTORS)
plain("prod", (4, 16384))
plain("local_response_normalization", IMAGES)
plain("decov", (2048, 16))
plain("matmul", (128, 256), (256, 192))
plain("bilinear", (64, 256), (64, 256), (256, 256, 4))
plain("swish", VECTORS, (512,))
plain("prelu", VECTORS, (512,))

# Shapes and indexes.
case("as_strided", lambda: (lambda x: F.as_strided(x, (64, 256), (512, 2)), floats(*VECTORS)))
case("broadcast_to", lambda: (lambda x: F.broadcast_to(x, (2, 32768)), floats(1, 32768)))
case("bias", lambda: (lambda x, y: F.bias(x, y, 0), floats(*VECTORS), floats(64)))
case("scale", lambda: (lambda x, y: F.scale(x, y, 1), floats(4, 32768), floats(32768)))
case("copy", lambda: (lambda x: F.copy(x, -1), floats(*VECTORS)))
case("cast", lambda: (lambda x: F.cast(x, np.float64), floats(*VECTORS)))
case("concat", lambda: (lambda *x: F.concat(x), floats(*IMAGES), floats(*IMAGES)))
case("depth2space", lambda: (lambda x: F.depth2space(x, 2), floats(*IMAGES)))
case("diagonal", lambda: (lambda x: F.diagonal(x, axis1=1, axis2=2), floats(1024, 24, 24)))
case("dstack", lambda: (lambda *x: F.dstack(x), floats(*VECTORS), floats(*VECTORS)))
case("expand_dims", lambda: (lambda x: F.expand_dims(x, 1), floats(*VECTORS)))
case("flip", lambda: (lambda x: F.flip(x, 0), floats(*VECTORS)))
case("get_item slice", lambda: (lambda x: x[8:, ::-1], floats(*VECTORS)))
case("get_item array", lambda: (lambda x: x[ints(64, 48)], floats(*VECTORS)))
case("get_item mask", lambda: (lambda x: x[booleans(*VECTORS)], floats(256, 512)[:64]))
case("hstack", lambda: (lambda *x: F.hstack(x), floats(*VECTORS), floats(*VECTORS)))
case("im2col", lambda: (lambda x: F.im2col(x, 3, pad=1), floats(*IMAGES)))
case("moveaxis", lambda: (lambda x: F.moveaxis(x, 1, 3), floats(*IMAGES)))
case("pad", lambda: (lambda x: F.pad(x, 2, "constant"), floats(*IMAGES)))
case("pad_sequence", lambda: (lambda *x: F.pad_sequence(x), floats(20000), floats(30000)))
case("permutate", lambda: (lambda x: F.permutate(x, rng.permutation(64)), floats(*VECTORS)))
case("repeat", lambda: (lambda x: F.repeat(x, 2, 0), floats(*VECTORS)))
case("reshape", lambda: (lambda x: F.reshape(x, (32, -1)), floats(*IMAGES)))
case("reshape of a view", lambda: (lambda x: F.reshape(x.T, (32, -1)), floats(*IMAGES)))
case("resize_images", lambda: (lambda x: F.resize_images(x, (32, 32)), floats(*IMAGES)))
case("rollaxis", lambda: (lambda x: F.rollaxis(x, 2), floats(*IMAGES)))
case(
    "scatter_add",
    lambda: (lambda a, b: F.scatter_add(a, ints(64, 48), b), floats(*VECTORS), floats(48, 512)),
)
case("select_item", lambda: (F.select_item, floats(32768, 4), ints(4, 32768)))
case("shift", lambda: (F.shift, floats(4, 18, 16, 32)))
case("space2depth", lambda: (lambda x: F.space2depth(x, 2), floats(*IMAGES)))
case(
    "spatial_transformer_grid",
    lambda: (lambda x: F.spatial_transformer_grid(x, (64, 64)), floats(8, 2, 3)),
)
case(
    "spatial_transformer_sampler",
    lambda: (F.spatial_transformer_sampler, floats(*IMAGES), floats(4, 2, 64, 64)),
)
case("split_axis", lambda: (lambda x: F.split_axis(x, [4, 6], 1), floats(4, 16, 32, 32)))
case("squeeze", lambda: (lambda x: F.squeeze(x, 1), floats(64, 1, 512)))
case("stack", lambda: (lambda *x: F.stack(x), floats(*VECTORS), floats(*VECTORS)))
case("sum_to", lambda: (lambda x: F.sum_to(x, (1, 32768)), floats(4, 32768)))
case("swapaxes", lambda: (lambda x: F.swapaxes(x, 1, 2), floats(*IMAGES)))
case("tile", lambda: (lambda x: F.tile(x, (2, 2)), floats(*VECTORS)))
case(
    "transpose_sequence",
    lambda: (
        lambda *x: F.transpose_sequence(x),
        floats(4, 20000),
        floats(3, 20000),
        floats(2, 20000),
    ),
)
case("vstack", lambda: (lambda *x: F.vstack(x), floats(*VECTORS), floats(*VECTORS)))
case("where", lambda: (F.where, booleans(256, 512), floats(256, 512), floats(256, 512)))

# Arithmetic and linear algebra.
case(
    "operators",
    lambda: (
        lambda x, y: (x + y) * (x - y) / (x + 1) ** 2 - (-y) ** x.array.ndim + 3 * x - abs(2 / y),
        floats(*VECTORS),
        floats(*VECTORS),
    ),
)
case("power", lambda: (lambda x, y: x**y, floats(*VECTORS), floats(*VECTORS)))
case("rpower", lambda: (lambda x: 2**x, floats(*VECTORS)))
case("remainder", lambda: (lambda x, y: (x // 0.3) + y, floats(*VECTORS), floats(*VECTORS)))
case("matrix operator", lambda: (lambda x, y: x @ y, floats(128, 256), floats(256, 192)))
case("clip", lambda: (lambda x: F.clip(x, 0.2, 0.7), floats(*VECTORS)))
case(
    "cholesky",
    lambda: (
        lambda a: F.cholesky(F.matmul(a, a, transb=True)),
        np.eye(160, dtype=np.float32) * 20 + floats(160, 160),
    ),
)
case("cross_covariance", lambda: (F.cross_covariance, floats(1024, 32), floats(1024, 24)))
case("det", lambda: (F.batch_det, floats(*MATRICES) + np.eye(24, dtype=np.float32) * 9))
case(
    "einsum", lambda: (lambda x, y: F.einsum("ij,kj->ik", x, y), floats(128, 256), floats(192, 256))
)
case("fft", lambda: (F.fft, (floats(64, 512), floats(64, 512))))
case("ifft", lambda: (F.ifft, (floats(64, 512), floats(64, 512))))
case("inv", lambda: (F.batch_inv, floats(*MATRICES) + np.eye(24, dtype=np.float32) * 9))
case("polygamma", lambda: (F.polygamma, ints(3, *VECTORS), floats(*VECTORS)))
case("zeta", lambda: (lambda q: F.zeta(floats(*VECTORS) + 2, q), floats(*VECTORS)))
case(
    "tensordot",
    lambda: (lambda x, y: F.tensordot(x, y, axes=1), floats(128, 256), floats(256, 192)),
)
case("maxout", lambda: (lambda x: F.maxout(x, 4), floats(*VECTORS)))
case(
    "sparse_matmul",
    lambda: (
        lambda x: F.sparse_matmul(chainer.utils.to_coo(np.eye(256, dtype=np.float32)), x),
        floats(256, 128),
    ),
)
case("weighted average", lambda: (lambda x, w: F.average(x, 1, w), floats(*VECTORS), floats(512)))
