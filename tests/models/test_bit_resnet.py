"""BiT networks, and their published weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly

import keras_distill as kd
from keras_distill.models import bit_weights
from keras_distill.models.bit_resnet import UNITS


@pytest.fixture(scope="module")
def model():
    return kd.models.bit_resnet(50, 1, (64, 64, 3))


def weights_of(units, width, classes):
    """The number of weights, counted by hand."""
    stem = 7 * 7 * 3 * 64 * width
    total, inputs = stem, 64 * width
    for stage, count in enumerate(units):
        inner = 64 * width * 2**stage
        outputs = 4 * inner
        total += inputs * outputs  # The shortcut.
        for _ in range(count):
            total += inputs * inner + 9 * inner**2 + inner * outputs
            total += 2 * (inputs + inner + inner)  # The normalizations.
            inputs = outputs
    return total + 2 * inputs + (inputs + 1) * classes


@pytest.mark.parametrize(
    "units, width, published",
    [
        ((3, 4, 6, 3), 1, (25_549_352, 68_256_659)),
        ((3, 4, 6, 3), 3, (217_319_080, 345_399_315)),
        ((3, 4, 23, 3), 1, (44_541_480, 87_248_787)),
        ((3, 4, 23, 3), 3, (387_934_888, 516_015_123)),
        ((3, 8, 36, 3), 2, (236_335_208, 321_728_979)),
        ((3, 8, 36, 3), 4, (936_533_224, 1_107_299_923)),
    ],
)
def test_weights_of_the_published_networks(units, width, published):
    assert units in UNITS.values()
    counted = [weights_of(units, width, n) for n in (1000, 21_843)]
    assert counted == list(published)


@pytest.mark.parametrize("units, width", [((1, 2, 1, 1), 1), ((1, 1, 1, 1), 2)])
def test_it_has_as_many_weights_as_counted(units, width):
    model = kd.models.bit_resnet(units, width, (32, 32, 3), classes=7)
    assert model.count_params() == weights_of(units, width, 7)


@pytest.mark.slow
def test_has_the_weights_of_the_paper(model):
    assert model.count_params() == 25_549_352
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, kd.models.StandardizedConv2D)
    ]
    # 49 on the way (with the head: 50) and one in each stage's shortcut.
    assert len(convolutions) == 49 + 4


@pytest.mark.slow
def test_stages_have_the_sizes_of_a_resnet50(model):
    shapes = [model.get_layer(f"stage{n}").output.shape for n in (1, 2, 3, 4)]
    assert [shape[1:] for shape in shapes] == [
        (16, 16, 256),
        (8, 8, 512),
        (4, 4, 1024),
        (2, 2, 2048),
    ]


def test_kernels_are_standardized_when_used():
    layer = kd.models.StandardizedConv2D(2, 1, use_bias=False)
    layer.build((None, 1, 1, 3))
    kernel = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 8.0]], "float32")
    layer.kernel.assign(kernel[None, None])
    used = layer(np.eye(3)[:, None, None, :])[:, 0, 0]
    expected = (kernel - kernel.mean(0)) / kernel.std(0)
    np.testing.assert_allclose(used, expected, rtol=1e-5)
    np.testing.assert_array_equal(layer.kernel, kernel[None, None])


def test_pools_like_a_padded_window_of_3():
    model = small()
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    pools = [model.get_layer(name) for name in ("stem_pool", "stem")]
    got = pools[1](pools[0](x))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-9e9)
    expected = tf.nn.max_pool2d(padded, 3, 2, "VALID")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_does_not_depend_on_the_batch_nor_on_training(model):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3))
    maps = keras.Model(model.input, model.get_layer("stage4").output)
    together = maps(x, training=True)
    alone = maps(x[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-2, atol=1e-2)
    # The head begins at 0.
    assert not np.any(model(x))


def test_is_saved_and_loaded(tmp_path):
    layer = kd.models.StandardizedConv2D(4, 3)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.rand(1, 8, 8, 3)
    np.testing.assert_array_equal(model(x), loaded(x))


# A published file, and what it computes, in NumPy.

SMALL = (1, 2, 1, 1)


def published_arrays(classes=5, seed=0):
    """Random arrays under the names of the published files."""
    rng = np.random.default_rng(seed)
    arrays = {}

    def kernel(name, *shape):
        arrays[f"resnet/{name}/kernel"] = rng.normal(size=shape)

    def norm(name, channels):
        arrays[f"resnet/{name}/gamma"] = rng.uniform(0.5, 1.5, channels)
        arrays[f"resnet/{name}/beta"] = rng.normal(0, 0.3, channels)

    kernel("root_block/standardized_conv2d", 7, 7, 3, 64)
    inputs = 64
    for block, units in enumerate(SMALL, 1):
        inner = 32 * 2**block
        for unit in range(1, units + 1):
            prefix = f"block{block}/unit{unit:02d}"
            if unit == 1:
                proj = f"{prefix}/a/proj/standardized_conv2d"
                kernel(proj, 1, 1, inputs, 4 * inner)
            sizes = (inputs, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1)
            for part, (i, o, size) in zip("abc", sizes):
                name = f"{prefix}/{part}"
                norm(f"{name}/group_norm", i)
                kernel(f"{name}/standardized_conv2d", size, size, i, o)
            inputs = 4 * inner
    norm("group_norm", inputs)
    kernel("head/conv2d", 1, 1, inputs, classes)
    arrays["resnet/head/conv2d/bias"] = rng.normal(size=classes)
    return {name: a.astype("float32") for name, a in arrays.items()}


def windows(x, size, strides, padding, value=0.0):
    """`(batch, height, width, channels, size, size)`."""
    around = (padding, padding)
    x = np.pad(x, [(0, 0), around, around, (0, 0)], constant_values=value)
    seen = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return seen[:, ::strides, ::strides]


def forward(arrays, x, stem_padding):
    """The logits that the published network computes, in float64."""
    arrays = {n.removeprefix("resnet/"): a for n, a in arrays.items()}

    def convolution(x, name, strides=1):
        kernel = arrays[f"{name}/standardized_conv2d/kernel"].astype(float)
        mean, variance = kernel.mean((0, 1, 2)), kernel.var((0, 1, 2))
        kernel = (kernel - mean) / np.sqrt(variance + 1e-10)
        seen = windows(x, len(kernel), strides, len(kernel) // 2)
        return np.tensordot(seen, kernel, ([4, 5, 3], [0, 1, 2]))

    def normalized(x, name):
        grouped = x.reshape(len(x), -1, 32, x.shape[-1] // 32)
        mean = grouped.mean((1, 3), keepdims=True)
        variance = grouped.var((1, 3), keepdims=True)
        grouped = (grouped - mean) / np.sqrt(variance + 1e-5)
        gamma, beta = (arrays[f"{name}/{n}"] for n in ("gamma", "beta"))
        return np.maximum(grouped.reshape(x.shape) * gamma + beta, 0)

    x = convolution(x.astype(float), "root_block", 2)
    beyond = 0.0 if stem_padding == "zeros" else -np.inf
    x = windows(x, 3, 2, 1, beyond).max((4, 5))
    for block, units in enumerate(SMALL, 1):
        for unit in range(1, units + 1):
            name = f"block{block}/unit{unit:02d}"
            strides = 2 if block > 1 and unit == 1 else 1
            y = normalized(x, f"{name}/a/group_norm")
            if unit == 1:
                x = convolution(y, f"{name}/a/proj", strides)
            y = convolution(y, f"{name}/a")
            y = convolution(
                normalized(y, f"{name}/b/group_norm"), f"{name}/b", strides
            )
            x = x + convolution(
                normalized(y, f"{name}/c/group_norm"), f"{name}/c"
            )
    x = normalized(x, "group_norm").mean((1, 2))
    return x @ arrays["head/conv2d/kernel"][0, 0] + arrays["head/conv2d/bias"]


def small(size=32, classes=5, **options):
    return kd.models.bit_resnet(SMALL, 1, (size, size, 3), classes, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        (63, "zeros"),
        (64, "infinite"),
        *nightly((63, "infinite"), (64, "zeros"), (65, "zeros")),
        *nightly((96, "infinite"), (128, "zeros")),
    ],
    ids=str,
)
def test_published_weights_give_the_published_logits(tmp_path, case):
    size, stem_padding = case
    arrays = published_arrays()
    np.savez(tmp_path / "bit.npz", **arrays)
    model = small(size, stem_padding=stem_padding)
    kd.models.load_bit_weights(model, tmp_path / "bit.npz")
    x = np.random.default_rng(1).uniform(-1, 1, (2, size, size, 3))
    expected = forward(arrays, x, stem_padding)
    np.testing.assert_allclose(
        model(x), expected, atol=5e-5 * np.abs(expected).max()
    )


def numbered(name):
    """As in files whose layers have numbers."""
    return name.replace("standardized_conv2d/", "standardized_conv2d_7/")


def of_big_vision(name):
    *path, variable = name.removeprefix("resnet/").split("/")
    if path == ["root_block", "standardized_conv2d"]:
        return "root_block/conv_root/kernel"
    if path[0] == "head":
        return f"head/{variable}"
    if path == ["group_norm"]:
        path = ["norm-pre-head"]
    elif "proj" in path:
        path = [*path[:2], "conv_proj"]
    else:
        kind = {"standardized_conv2d": "conv", "group_norm": "gn"}[path[3]]
        path = [*path[:2], f"{kind}{'abc'.index(path[2]) + 1}"]
    variable = {"gamma": "scale", "beta": "bias"}.get(variable, variable)
    return "params/" + "/".join([*path, variable])


@pytest.mark.parametrize("rename", [numbered, of_big_vision])
def test_other_names(tmp_path, rename):
    arrays = published_arrays()
    renamed = {rename(name): array for name, array in arrays.items()}
    if rename is of_big_vision:
        head = "head/kernel"
        renamed[f"params/{head}"] = renamed.pop(head)[0, 0]
        renamed = {
            n: a[None, None, None] if "gn" in n else a
            for n, a in renamed.items()
        }
        renamed["opt/count"] = np.zeros(())
    np.savez(tmp_path / "bit.npz", **arrays)
    np.savez(tmp_path / "renamed.npz", **renamed)
    models = small(), small()
    for model, name in zip(models, ("bit", "renamed")):
        kd.models.load_bit_weights(model, tmp_path / f"{name}.npz")
    for one, other in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(one, other)


def test_the_head_is_kept_for_other_classes(tmp_path):
    np.savez(tmp_path / "bit.npz", **published_arrays(classes=5))
    model = small(classes=3)
    with pytest.raises(ValueError, match="head/conv2d/.*head=False"):
        kd.models.load_bit_weights(model, tmp_path / "bit.npz")
    kd.models.load_bit_weights(model, tmp_path / "bit.npz", head=False)
    assert not np.any(model.get_layer("logits").get_weights()[0])
    gamma = model.get_layer("head_norm").get_weights()[0]
    arrays = published_arrays()
    np.testing.assert_array_equal(gamma, arrays["resnet/group_norm/gamma"])


NORM = "resnet/block2/unit02/b/group_norm/beta"
LAST = "resnet/block4/unit01/c/standardized_conv2d/kernel"


@pytest.fixture(scope="module")
def untouched():
    return small()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop(NORM), f"Missing in the file: {NORM}"),
        (lambda a: a.update({"resnet/x": NORM}), "network: resnet/x"),
        (lambda a: a.update({NORM: np.ones(3)}), rf"'{NORM}' is \(3,\), but"),
        (
            lambda a: a.update({NORM: a[NORM] + 1j}),
            f"'{NORM}' must be an array",
        ),
        (lambda a: a.update({NORM: a[NORM].astype("U")}), f"'{NORM}' must be"),
        (lambda a: a.update({NORM: a[NORM].astype("O")}), f"'{NORM}' cannot"),
        (
            lambda a: a.update({NORM: a[NORM] * np.inf}),
            f"'{NORM}' is not finite",
        ),
        (
            lambda a: a.update({numbered(LAST): a[LAST]}),
            f"'{LAST}' and '{numbered(LAST)}' are both",
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, message, untouched):
    arrays = published_arrays()
    change(arrays)
    np.savez(tmp_path / "bit.npz", **arrays)
    before = untouched.get_weights()
    with pytest.raises(ValueError, match=message):
        kd.models.load_bit_weights(untouched, tmp_path / "bit.npz")
    for value, old in zip(untouched.get_weights(), before):
        np.testing.assert_array_equal(value, old)


def test_arrays_of_other_dtypes(tmp_path):
    dtypes = np.float64, np.float16, tf.bfloat16.as_numpy_dtype
    arrays = {
        name: array.astype(dtypes[number % 3])
        for number, (name, array) in enumerate(published_arrays().items())
    }
    np.savez(tmp_path / "bit.npz", **arrays)
    model = small()
    kd.models.load_bit_weights(model, tmp_path / "bit.npz")
    for name, variable in bit_weights._expected(model):
        array = arrays[name].astype("float32").reshape(variable.shape)
        np.testing.assert_array_equal(variable, array)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04", None])
def test_files_of_other_kinds(tmp_path, content, untouched):
    path = tmp_path / "bit.npz"
    if content is None:
        with open(path, "wb") as file:
            np.save(file, np.ones(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is no .npz file of weights"):
        kd.models.load_bit_weights(untouched, path)
