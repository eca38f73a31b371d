"""Static shapes, in which `None` is a size that is not known yet."""


def sizes_agree(one, other):
    """Whether two shapes have the same rank, and the same sizes where known."""
    return len(one) == len(other) and all(
        None in sizes or sizes[0] == sizes[1] for sizes in zip(one, other)
    )


def is_one_shape(shape):
    """Whether this is the shape of one tensor, and not of several."""
    return isinstance(shape, (tuple, list)) and all(
        size is None or isinstance(size, int) for size in shape
    )
