"""The student with three convolutions."""

import keras

import keras_distill as kd


def test_is_as_small_as_documented():
    model = kd.models.small_cnn()
    trainable = sum(w.shape.num_elements() for w in model.trainable_weights)
    assert trainable == 57_130
    kernels = [
        layer.kernel.shape[:2]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert [tuple(kernel) for kernel in kernels] == [(3, 3)] * 3


def test_stages_end_before_the_pooling():
    model = kd.models.small_cnn((4, 6, 8), (28, 28, 1), classes=5, name="tiny")
    shapes = [model.get_layer(f"stage{k}").output.shape for k in (1, 2, 3)]
    assert [shape[1:] for shape in shapes] == [
        (28, 28, 4),
        (14, 14, 6),
        (7, 7, 8),
    ]
    assert model.output.shape == (None, 5) and model.name == "tiny"
