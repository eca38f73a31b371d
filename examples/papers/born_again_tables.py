"""Tables 1 to 5 of "Born-Again Neural Networks": networks and what they got.

`born_again.py --table 1` trains the rows of a table, in small or (`--full`) at
the published depths, and prints the published errors and sizes beside ours.

Not all sizes are met. `kd.models.densenet_bc` says how near its networks come.
The paper does not give the widths of the residual students of table 5: ours,
as wide as the stages of the teacher, have 40 to 213 million weights instead of
7.3 to 87.3. The students of table 4 with another compression have 13.0, 14.5
and 20.0 million instead of 5.1, 10.1 and 80.5.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras_distill as kd


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name: That of the paper.
        parameters: Millions of weights, as published.
        published: Errors in %, by column.
        small: A function `(shape, classes)` that returns a small network of
            the kind.
        full: The same for a network as deep as the published one.
        shared: Layers that it takes over from the teacher, frozen.
    """

    name: str
    parameters: float
    published: dict
    small: Callable
    full: Callable
    shared: tuple = ()


def densenet(blocks, growth, compression=0.5):
    def build(shape, classes):
        return kd.models.densenet_bc(
            blocks=(blocks,) * 3,
            growth=growth,
            compression=compression,
            stem_filters=16,
            input_shape=shape,
            classes=classes,
        )

    return build


def wide_resnet(blocks, width):
    """Units of 16, 32 and 64 times `width`, which may be below 1."""

    def build(shape, classes):
        stages = [round(width * filters) for filters in (16, 32, 64)]
        return kd.models.preactivation_resnet(
            blocks=(blocks,) * 3,
            filters=(16 if width >= 1 else 8, *stages),
            input_shape=shape,
            classes=classes,
        )

    return build


def stages_of_densenet(blocks, growth):
    """Maps at the end of each stage, of a stem of 16."""
    first = (16 + blocks * growth) // 2
    second = (first + blocks * growth) // 2
    return first, second, second + blocks * growth


def resnet_like(teacher, blocks, ratio, bottleneck=False):
    """Residual stages as wide as those of a DenseNet, or a share of that.

    The last one is as wide whatever the share: its maps go into the teacher's
    last layer.
    """

    def build(shape, classes):
        first, second, third = stages_of_densenet(*teacher)
        return kd.models.preactivation_resnet(
            blocks=(blocks,) * 3,
            filters=(16, round(ratio * first), round(ratio * second), third),
            bottleneck=bottleneck,
            input_shape=shape,
            classes=classes,
        )

    return build


# Blocks of a stage and growth: published, and here.
DENSENETS = {
    "DenseNet-112-33": ((18, 33), (4, 4)),
    "DenseNet-90-60": ((15, 60), (3, 8)),
    "DenseNet-80-80": ((13, 80), (2, 12)),
    "DenseNet-80-120": ((13, 120), (2, 18)),
}
# Width: published, and here, where there is one unit a stage and not four.
WIDE_RESNETS = {
    "Wide-ResNet-28-1": (1, 0.25),
    "Wide-ResNet-28-2": (2, 0.375),
    "Wide-ResNet-28-5": (5, 0.625),
    "Wide-ResNet-28-10": (10, 1),
}
FULL_TEACHER, SMALL_TEACHER = DENSENETS["DenseNet-90-60"]


def _named(name, parameters, columns, errors):
    if name in DENSENETS:
        full, small = DENSENETS[name]
        builders = densenet(*small), densenet(*full)
    else:
        full, small = WIDE_RESNETS[name]
        builders = wide_resnet(1, small), wide_resnet(4, full)
    return Row(name, parameters, dict(zip(columns, errors)), *builders)


def _modified(name, parameters, error, depth=1.0, compression=1.0):
    builders = []
    for blocks, growth in (SMALL_TEACHER, FULL_TEACHER):
        units = max(round(depth * blocks), 1)
        # As many maps in all.
        grown = max(round(blocks * growth / units), 1)
        builders.append(densenet(units, grown, 0.5 * compression))
    return Row(name, parameters, {"BAN": error}, *builders)


def _residual(name, parameters, errors, small_blocks, blocks, ratio, **options):
    builders = [
        resnet_like(SMALL_TEACHER, small_blocks, ratio, **options),
        resnet_like(FULL_TEACHER, blocks, ratio, **options),
    ]
    published = dict(zip(("Baseline", "BAN"), errors))
    return Row(name, parameters, published, *builders, ("stem_conv", "logits"))


OF_TEACHER = Row(
    "DenseNet-90-60, the teacher",
    16.1,
    {"Teacher": 17.69},
    densenet(*SMALL_TEACHER),
    densenet(*FULL_TEACHER),
)
ALL_COLUMNS = (
    "Teacher",
    "BAN",
    "BAN+L",
    "CWTM",
    "DKPP",
    "BAN-1",
    "BAN-2",
    "BAN-3",
    "Ens*2",
    "Ens*3",
)
one = functools.partial(_named, columns=("Teacher", "BAN"))
two = functools.partial(_named, columns=ALL_COLUMNS)
three = functools.partial(_named, columns=("Teacher", "BAN", "Dense-90-60"))
TABLES = {
    1: [
        one("Wide-ResNet-28-1", 0.38, errors=(6.69, 6.64)),
        one("Wide-ResNet-28-2", 1.48, errors=(5.06, 4.86)),
        one("Wide-ResNet-28-5", 9.16, errors=(4.13, 4.03)),
        one("Wide-ResNet-28-10", 36, errors=(3.77, 3.86)),
        one("DenseNet-112-33", 6.3, errors=(3.84, 3.61)),
        one("DenseNet-90-60", 16.1, errors=(3.81, 3.5)),
        one("DenseNet-80-80", 22.4, errors=(3.48, 3.49)),
        one("DenseNet-80-120", 50.4, errors=(3.37, 3.54)),
    ],
    2: [
        two(
            "DenseNet-112-33",
            6.3,
            errors=(
                *(18.25, 16.95, 17.68, 17.84, 17.84),
                *(17.61, 17.22, 16.59, 15.77, 15.68),
            ),
        ),
        two(
            "DenseNet-90-60",
            16.1,
            errors=(
                *(17.69, 16.69, 16.93, 17.42, 17.43),
                *(16.62, 16.44, 16.72, 15.39, 15.74),
            ),
        ),
        two(
            "DenseNet-80-80",
            22.4,
            errors=(
                *(17.16, 16.36, 16.5, 17.16, 16.84),
                *(16.26, 16.30, 15.5, 15.46, 15.14),
            ),
        ),
        two(
            "DenseNet-80-120",
            50.4,
            errors=(
                *(16.87, 16.00, 16.41, 17.12, 16.34),
                *(16.13, 16.13, None, 15.13, 14.9),
            ),
        ),
    ],
    3: [
        three("Wide-ResNet-28-1", 0.38, errors=(30.05, 29.43, 24.93)),
        three("Wide-ResNet-28-2", 1.48, errors=(25.32, 24.38, 18.49)),
        three("Wide-ResNet-28-5", 9.16, errors=(20.88, 20.93, 17.52)),
        three("Wide-ResNet-28-10", 36, errors=(19.08, 18.25, 16.79)),
    ],
    4: [
        OF_TEACHER,
        _modified("0.5*Depth", 21.2, 16.95, depth=0.5),
        _modified("2*Depth", 13.7, 16.43, depth=2),
        _modified("3*Depth", 12.9, 16.64, depth=3),
        _modified("4*Depth", 12.6, 16.64, depth=4),
        _modified("0.5*Compr", 5.1, 19.83, compression=0.5),
        _modified("0.75*Compr", 10.1, 17.3, compression=0.75),
        _modified("1.5*Compr", 80.5, 18.89, compression=1.5),
    ],
    5: [
        OF_TEACHER,
        _residual(
            *("BAN-Pre-ResNet-14-0.5", 7.3, (20.28, 18.8), 3, 14, 0.5),
            bottleneck=True,
        ),
        _residual(
            *("BAN-Pre-ResNet-14-1", 17.7, (18.84, 17.39), 3, 14, 1),
            bottleneck=True,
        ),
        _residual("BAN-Wide-ResNet-1-1", 20.9, (20.4, 19.12), 1, 1, 1),
        _residual("BAN-Match-Wide-ResNet-2-1", 43.1, (18.83, 17.42), 2, 2, 1),
        _residual("BAN-Wide-ResNet-4-0.5", 24.3, (19.63, 17.13), 3, 4, 0.5),
        _residual("BAN-Wide-ResNet-4-1", 87.3, (18.77, 17.18), 3, 4, 1),
    ],
}


def columns_of(table):
    """The columns of a table, in the paper's order."""
    found = [column for row in TABLES[table] for column in row.published]
    return list(dict.fromkeys(found))
