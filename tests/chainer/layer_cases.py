"""Cases of layers: convolution, pooling, normalization, losses, recurrence, and links."""

from __future__ import annotations

from typing import Any

import chainer
import numpy as np
from case_table import (
    IMAGES,
    SIGNALS,
    VECTORS,
    VOLUMES,
    F,
    L,
    booleans,
    case,
    floats,
    ints,
    link,
    rng,
)

# Convolution and pooling.
WEIGHTS = (32, 16, 6, 6)
case(
    "convolution_2d",
    lambda: (
        lambda x, w, b: F.convolution_2d(x, w, b, pad=1),
        floats(*IMAGES),
        floats(*WEIGHTS),
        floats(32),
    ),
)
case(
    "convolution_2d groups",
    lambda: (
        lambda x, w: F.convolution_2d(x, w, pad=1, groups=2),
        floats(*IMAGES),
        floats(64, 8, 6, 6),
    ),
)
case(
    "convolution_2d groups stride bias",
    lambda: (
        lambda x, w, b: F.convolution_2d(x, w, b, stride=2, pad=1, groups=4),
        floats(4, 16, 64, 32),
        floats(64, 4, 9, 9),
        floats(64),
    ),
)
case(
    "convolution_2d of single pixels",
    lambda: (
        lambda x, w: F.convolution_2d(x, w, stride=2),
        floats(4, 128, 16, 16),
        floats(256, 128, 1, 1),
    ),
)
case(
    "convolution_2d dilate",
    lambda: (lambda x, w: F.convolution_2d(x, w, dilate=2), floats(*IMAGES), floats(32, 16, 6, 6)),
)
case(
    "dilated_convolution_2d",
    lambda: (
        lambda x, w: F.dilated_convolution_2d(x, w, dilate=2),
        floats(*IMAGES),
        floats(*WEIGHTS),
    ),
)
case(
    "depthwise_convolution_2d",
    lambda: (F.depthwise_convolution_2d, floats(*IMAGES), floats(32, 16, 6, 6)),
)
case(
    "deconvolution_2d",
    lambda: (F.deconvolution_2d, floats(*IMAGES), floats(16, 32, 6, 6), floats(32)),
)
case(
    "deconvolution_2d groups",
    lambda: (
        lambda x, w: F.deconvolution_2d(x, w, groups=2),
        floats(*IMAGES),
        floats(16, 32, 6, 6),
    ),
)
case(
    "convolution_nd",
    lambda: (F.convolution_nd, floats(*VOLUMES), floats(16, 8, 6, 5, 5), floats(16)),
)
case(
    "deconvolution_nd",
    lambda: (F.deconvolution_nd, floats(*VOLUMES), floats(8, 16, 6, 5, 5), floats(16)),
)
case("convolution_1d", lambda: (F.convolution_1d, floats(*SIGNALS), floats(64, 16, 17)))
case(
    "local_convolution_2d",
    lambda: (
        F.local_convolution_2d,
        floats(4, 4, 34, 34),
        floats(4, 32, 32, 4, 3, 3),
        floats(4, 32, 32),
    ),
)
case(
    "deformable_convolution_2d_sampler",
    lambda: (
        F.deformable_convolution_2d_sampler,
        floats(4, 16, 32, 32),
        floats(4, 18, 30, 30),
        floats(120, 16, 3, 3),
    ),
)
for _name in ("max_pooling", "average_pooling"):
    for _suffix, _shape in (("1d", SIGNALS), ("2d", (4, 16, 32, 32)), ("3d", VOLUMES)):
        _function = getattr(F, f"{_name}_{_suffix}")
        case(f"{_name}_{_suffix}", lambda f=_function, s=_shape: (lambda x: f(x, 2), floats(*s)))
case(
    "overlapping max_pooling_2d",
    lambda: (lambda x: F.max_pooling_2d(x, 3, stride=1, pad=1), floats(*IMAGES)),
)
case(
    "overlapping average_pooling_2d",
    lambda: (lambda x: F.average_pooling_2d(x, 3, stride=1, pad=1), floats(*IMAGES)),
)
case(
    "max_pooling_2d not covering all",
    lambda: (
        lambda x: F.max_pooling_2d(x, 3, stride=2, pad=1, cover_all=False),
        floats(4, 64, 16, 32),
    ),
)
case(
    "average_pooling_2d of whole maps",
    lambda: (lambda x: F.average_pooling_2d(x, x.shape[2:], stride=1), floats(64, 256, 4, 6)),
)
case(
    "max_pooling_2d with indexes",
    lambda: (lambda x: F.max_pooling_2d(x, 2, return_indices=True)[0], floats(*IMAGES)),
)
case(
    "spatial_pyramid_pooling_2d",
    lambda: (lambda x: F.spatial_pyramid_pooling_2d(x, 3, pooling="max"), floats(16, 64, 16, 32)),
)
case("unpooling_2d", lambda: (lambda x: F.unpooling_2d(x, 2, cover_all=False), floats(*IMAGES)))
case("unpooling_nd", lambda: (lambda x: F.unpooling_3d(x, 2, cover_all=False), floats(*VOLUMES)))
case(
    "upsampling_2d",
    lambda: (
        lambda x: F.upsampling_2d(x, rng.integers(0, 4, IMAGES), 2, cover_all=False),
        floats(*IMAGES),
    ),
)
for _name, _keywords in (
    ("roi_pooling_2d", {}),
    ("roi_max_pooling_2d", {}),
    ("roi_average_pooling_2d", {}),
    ("roi_max_align_2d", {"sampling_ratio": 1}),
    ("roi_average_align_2d", {"sampling_ratio": 1}),
):
    case(_name, lambda n=_name, k=_keywords: (lambda x: roi(n, x, **k), floats(1, 16, 32, 32)))


def roi(name: str, x: Any, **keywords: Any) -> Any:
    corners = np.tile(np.array([0, 0, 20, 20], np.float32), (16, 1))
    if name == "roi_pooling_2d":
        return F.roi_pooling_2d(x, np.insert(corners, 0, 0, 1), 8, 8, 1.0)
    return getattr(F, name)(x, corners, np.zeros(16, np.int32), 8, 1.0, **keywords)


# Normalization, with as many channels as it takes to make the statistics blocks.
WIDE = (4, 16384)
case(
    "batch_normalization",
    lambda: (F.batch_normalization, floats(*WIDE), floats(16384), floats(16384)),
)
case(
    "batch_normalization images",
    lambda: (F.batch_normalization, floats(*IMAGES), floats(16), floats(16)),
)
case(
    "fixed_batch_normalization",
    lambda: (F.fixed_batch_normalization, floats(*WIDE), *(floats(16384) for _ in range(4))),
)
case(
    "batch_renormalization",
    lambda: (
        lambda x, g, b: F.batch_renormalization(
            x, g, b, 2.0, 1.0, running_mean=floats(16384), running_var=floats(16384)
        ),
        floats(*WIDE),
        floats(16384),
        floats(16384),
    ),
)
case(
    "fixed_batch_renormalization",
    lambda: (
        lambda *x: F.fixed_batch_renormalization(*x, floats(16384), floats(16384)),
        floats(*WIDE),
        floats(16384),
        floats(16384),
    ),
)
case(
    "decorrelated_batch_normalization",
    lambda: (lambda x: F.decorrelated_batch_normalization(x, groups=4), floats(4096, 16)),
)
case(
    "fixed_decorrelated_batch_normalization",
    lambda: (
        lambda x: F.fixed_decorrelated_batch_normalization(
            x, floats(4, 4), floats(4, 4, 4), groups=4
        ),
        floats(4096, 16),
    ),
)
case(
    "group_normalization",
    lambda: (
        lambda *x: F.group_normalization(x[0], 4, *x[1:]),
        floats(*IMAGES),
        floats(16),
        floats(16),
    ),
)
case(
    "layer_normalization",
    lambda: (F.layer_normalization, floats(*WIDE), floats(16384), floats(16384)),
)

# Losses and metrics.
case("softmax_cross_entropy", lambda: (F.softmax_cross_entropy, floats(32768, 8), ints(8, 32768)))
case(
    "softmax_cross_entropy images",
    lambda: (F.softmax_cross_entropy, floats(4, 8, 64, 128), ints(8, 4, 64, 128)),
)
case(
    "softmax_cross_entropy each",
    lambda: (
        lambda x, t: F.softmax_cross_entropy(x, t, reduce="no", enable_double_backprop=True),
        floats(32768, 8),
        ints(8, 32768),
    ),
)
case(
    "sigmoid_cross_entropy", lambda: (F.sigmoid_cross_entropy, floats(*VECTORS), ints(2, *VECTORS))
)
case("accuracy", lambda: (F.accuracy, floats(32768, 8), ints(8, 32768)))
case("binary_accuracy", lambda: (F.binary_accuracy, floats(32768), ints(2, 32768)))
case(
    "classification_summary",
    lambda: (lambda y, t: F.classification_summary(y, t)[0], floats(32768, 4), ints(4, 32768)),
)
case("r2_score", lambda: (F.r2_score, floats(32768), floats(32768)))
case(
    "contrastive",
    lambda: (lambda a, b: F.contrastive(a, b, ints(2, 64)), floats(*VECTORS), floats(*VECTORS)),
)
case("triplet", lambda: (F.triplet, *(floats(*VECTORS) for _ in range(3))))
case("hinge", lambda: (F.hinge, floats(32768, 4), ints(4, 32768)))
case(
    "huber_loss", lambda: (lambda a, b: F.huber_loss(a, b, 0.3), floats(*VECTORS), floats(*VECTORS))
)
case(
    "crf1d",
    lambda: (
        lambda cost, *xs: F.crf1d(cost, xs, [ints(8, 4096) for _ in xs]),
        floats(8, 8),
        *(floats(4096, 8) for _ in range(3)),
    ),
)
case(
    "argmax_crf1d",
    lambda: (
        lambda cost, *xs: F.argmax_crf1d(cost, xs)[0],
        floats(8, 8),
        *(floats(4096, 8) for _ in range(3)),
    ),
)
case(
    "connectionist_temporal_classification",
    lambda: (
        lambda *xs: F.connectionist_temporal_classification(xs, ints(4, 4096, 2) + 1, 0),
        *(floats(4096, 8) for _ in range(4)),
    ),
)
case(
    "black_out",
    lambda: (
        lambda x, w: F.black_out(x, ints(512, 64), w, ints(512, 64, 8)),
        floats(*VECTORS),
        floats(512, 512),
    ),
)
case(
    "negative_sampling",
    lambda: (
        lambda x, w: F.negative_sampling(x, ints(512, 64), w, lambda shape: ints(512, *shape), 4),
        floats(*VECTORS),
        floats(512, 512) / 100,
    ),
)
case(
    "discriminative_margin_based_clustering_loss",
    lambda: (
        lambda x: F.discriminative_margin_based_clustering_loss(x, ints(4, 8, 16, 32), 0.5, 1.5, 8)[
            0
        ],
        floats(8, 8, 16, 32),
    ),
)

# Noise, embedding, recurrence, and functions that run others.
case(
    "dropout with mask",
    lambda: (lambda x: F.dropout(x, mask=booleans(*VECTORS).astype(np.float32)), floats(*VECTORS)),
)
case("gumbel_softmax", lambda: (F.gumbel_softmax, floats(32768, 4)))
case(
    "simplified_dropconnect",
    lambda: (F.simplified_dropconnect, floats(64, 256), floats(256, 256), floats(256)),
)
case("embed_id", lambda: (F.embed_id, ints(512, 64), floats(512, 256)))
case("linear", lambda: (F.linear, floats(64, 512), floats(256, 512), floats(256)))
case("forget", lambda: (lambda x: F.forget(lambda x: F.tanh(F.exp(x) * x), x), floats(*VECTORS)))
case("lstm", lambda: (F.lstm, floats(128, 256), floats(128, 1024)))
case(
    "slstm",
    lambda: (F.slstm, floats(128, 256), floats(128, 256), floats(128, 1024), floats(128, 1024)),
)
case("tree_lstm", lambda: (F.tree_lstm, floats(128, 256), floats(128, 256), floats(128, 1280)))


def recurrent(name: str, gates: int, states: int) -> tuple[Any, ...]:
    """Two layers, three steps, 128 units, a batch of 128."""
    size, two_way = 128, 2 if "bi" in name else 1
    inner = [size, size * two_way]
    weights, biases = [], []
    for layer in range(2):
        for _ in range(two_way):
            widths = [inner[layer]] * gates + [size] * gates
            weights.append([chainer.Parameter(floats(size, width)) for width in widths])
            biases.append([chainer.Parameter(floats(size)) for _ in widths])
    hidden = [floats(2 * two_way, size, size) for _ in range(states)]

    def run(*arrays: Any) -> Any:
        function = getattr(F, name)
        return function(
            2, 0.5, *arrays[:states], weights, biases, [x * 1 for x in arrays[states:]]
        )[-1]

    return (run, *hidden, *(floats(size, size) for _ in range(3)))


for _name, _gates, _states in (
    ("n_step_lstm", 4, 2),
    ("n_step_bilstm", 4, 2),
    ("n_step_gru", 3, 1),
    ("n_step_bigru", 3, 1),
    ("n_step_rnn", 1, 1),
    ("n_step_birnn", 1, 1),
):
    case(_name, lambda n=_name, g=_gates, s=_states: recurrent(n, g, s))

# Links, for what they do around their functions.
link("BatchNormalization", lambda: L.BatchNormalization(16384), WIDE)
link("BatchRenormalization", lambda: L.BatchRenormalization(16384), WIDE)
link("Bilinear", lambda: L.Bilinear(128, 128, 8), (128, 128), (128, 128))
link("Convolution2D", lambda: L.Convolution2D(16, 32, 6), IMAGES)
link("Deconvolution2D", lambda: L.Deconvolution2D(16, 32, 6), IMAGES)
link("DeformableConvolution2D", lambda: L.DeformableConvolution2D(16, 32, 3), (4, 16, 32, 32))
link("DepthwiseConvolution2D", lambda: L.DepthwiseConvolution2D(16, 32, 6), IMAGES)
link("GRU", lambda: L.StatelessGRU(128, 128), (128, 128), (128, 128))
link("Highway", lambda: L.Highway(256), (128, 256))
link("Inception", lambda: L.Inception(16, 16, 16, 16, 16, 16, 16), (4, 16, 32, 32))
link("InceptionBN", lambda: L.InceptionBN(16, 16, 16, 16, 16, 16, "max", 16), (4, 16, 32, 32))
link(
    "InceptionBN halving",
    lambda: L.InceptionBN(16, 0, 16, 16, 16, 16, "max", stride=2),
    (4, 16, 64, 32),
)
link("LSTM", lambda: L.LSTM(128, 128), (128, 128))
link("Linear", lambda: L.Linear(256, 256), (128, 256))
link("MLPConvolution2D", lambda: L.MLPConvolution2D(16, (32, 64), 6), IMAGES)
link("Maxout", lambda: L.Maxout(256, 128, 4), (128, 256))
link("PReLU", lambda: L.PReLU((512,)), VECTORS)
link("Scale", lambda: L.Scale(axis=1, W_shape=(16384,), bias_term=True), WIDE)
link("StatefulPeepholeLSTM", lambda: L.StatefulPeepholeLSTM(128, 128), (128, 128))
case("L.EmbedID", lambda: (L.EmbedID(512, 256), ints(512, 64)))
case(
    "L.BinaryHierarchicalSoftmax",
    lambda: (L.BinaryHierarchicalSoftmax(512, ((0, 1), ((2, 3), 4))), floats(64, 512), ints(5, 64)),
)
case(
    "L.CRF1d",
    lambda: (
        lambda *xs: L.CRF1d(8)(xs, [ints(8, 4096) for _ in xs]),
        *(floats(4096, 8) for _ in range(3)),
    ),
)
case(
    "L.NegativeSampling",
    lambda: (L.NegativeSampling(512, [1] * 512, 4), floats(64, 512), ints(512, 64)),
)
case("L.BlackOut", lambda: (L.BlackOut(512, [1] * 512, 8), floats(64, 512), ints(512, 64)))
