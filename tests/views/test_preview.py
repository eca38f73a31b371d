import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd


def test_three_columns_and_a_row_per_sample(tmp_path):
    x = np.random.uniform(size=(20, 16, 16, 1)).astype("float32")
    views = kd.views.Preprocessing()
    picture = kd.views.preview(views, (x, np.zeros(20)), tmp_path / "a.png")
    assert picture.shape == (8 * 16 + 7 * 2, 3 * 16 + 2 * 2, 3)
    assert picture.dtype == np.uint8
    expected = np.round(255 * x[1, :, :, 0])
    for column in range(3):
        shown = picture[18:34, 18 * column : 18 * column + 16]
        np.testing.assert_array_equal(shown, np.dstack([expected] * 3))
    assert (picture[16:18] == 255).all()
    read = tf.io.decode_png(tf.io.read_file(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(read, picture)


@pytest.mark.slow
def test_views_of_an_epoch_and_sizes_of_their_own():
    x = np.random.randint(0, 256, (16, 16, 16, 3)).astype("uint8")
    views = kd.views.IndependentNoise(12, teacher_image_size=24)
    batch = kd.views.indexed(x)
    one, same, other = (
        kd.views.preview(views, batch, samples=2, epoch=e) for e in (0, 0, 1)
    )
    assert one.shape == (2 * 24 + 2, 16 + 12 + 24 + 4, 3)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one[:16, :16], x[0])
    assert (one[16:24, :16] == 255).all()


def test_bad_previews():
    with pytest.raises(TypeError, match="views must be"):
        kd.views.preview(None, np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"the batch of shape \(2, 5\)"):
        kd.views.preview(kd.views.Preprocessing(), np.zeros((2, 5)))
