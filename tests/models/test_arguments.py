"""What the networks refuse, and that the message helps."""

import pytest

import keras_distill as kd

models = kd.models


@pytest.mark.parametrize(
    "build, depth, form",
    [
        (models.cifar_resnet, 21, r"6 n \+ 2 .* nearest are 20 and 26"),
        (models.preactivation_resnet, 22, r"6 n \+ 2 .* 20 and 26"),
        (models.wide_resnet, 20, r"6 n \+ 4 .* 16 and 22"),
        (models.wide_resnet, 4, r"6 n \+ 4 .* 10 and 16"),
        (models.densenet_bc, 90, r"6 n \+ 4 .* 88 and 94"),
    ],
)
def test_depths_that_no_number_of_blocks_gives(build, depth, form):
    with pytest.raises(ValueError, match=f"depth must be {form}.*={depth}"):
        build(depth)


def test_bottlenecks_have_three_convolutions():
    with pytest.raises(ValueError, match=r"9 n \+ 2 .* 20 and 29.*depth=26"):
        models.preactivation_resnet(26, bottleneck=True)


@pytest.mark.parametrize("depth", ["20", 20.0, True, -20])
def test_depths_that_are_no_numbers_of_layers(depth):
    with pytest.raises(ValueError, match="depth must be"):
        models.cifar_resnet(depth)


@pytest.mark.parametrize(
    "build", [models.cifar_resnet, models.preactivation_resnet]
)
@pytest.mark.parametrize("blocks", [(), 3, (2, 0, 2), (2, 1.5), "22"])
def test_blocks_that_are_none(build, blocks):
    with pytest.raises(
        ValueError, match="blocks must be a list of integers of at least 1"
    ):
        build(blocks=blocks)


@pytest.mark.parametrize(
    "build", [models.cifar_resnet, models.preactivation_resnet]
)
def test_depth_and_blocks_at_once(build):
    with pytest.raises(ValueError, match="depth or blocks, not both.*depth=20"):
        build(20, blocks=(3, 3, 3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"filters": (16, 32, 64)}, "one for the first convolution and"),
        ({"filters": (16, 0, 32, 64)}, "filters must be a list of integers"),
        ({"filters": (16, 2, 8, 8), "bottleneck": True}, "at least 4 filters"),
    ],
)
def test_filters_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        models.preactivation_resnet(20 if len(options) < 2 else 29, **options)


@pytest.mark.parametrize("filters", [(8, 8), (8, 8, 8, 8), (8, -1, 8), 8])
def test_a_small_cnn_has_three_convolutions(filters):
    with pytest.raises(ValueError, match="each of the three convolutions"):
        models.small_cnn(filters)


@pytest.mark.parametrize("compression", [0, -0.5, 1.1, float("nan"), "half"])
def test_compressions_outside_of_0_to_1(compression):
    with pytest.raises(ValueError, match=r"compression must be .*\(0, 1\]"):
        models.densenet_bc(10, compression=compression)


@pytest.mark.parametrize("growth", [0, 2.5])
def test_growths(growth):
    with pytest.raises(ValueError, match="growth must be"):
        models.densenet_bc(10, growth)


@pytest.mark.parametrize("dropout", [1, -0.1, float("nan"), None])
def test_dropouts_outside_of_0_to_1(dropout):
    with pytest.raises(ValueError, match=r"dropout must be .*\[0, 1\)"):
        models.wide_resnet(10, 1, dropout)


@pytest.mark.parametrize("width", [0, 0.5])
def test_widths(width):
    with pytest.raises(ValueError, match="width must be"):
        models.wide_resnet(10, width)
