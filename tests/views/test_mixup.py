import numpy as np
import tensorflow as tf

from keras_distill.views import draws
from keras_distill.views import mixup


def test_partners_stay_in_their_group():
    groups = tf.constant([0, 0, 0, 1, 1, 5, 0, 1])
    ranks = tf.constant([5, 3, 9, 7, 1, 4, 4, 2], tf.uint32)
    # By rank: group 0 is 1, 6, 0, 2; group 1 is 4, 7, 3; group 5 is 5.
    expected = [2, 6, 1, 4, 7, 5, 0, 3]
    np.testing.assert_array_equal(mixup.partners(groups, ranks), expected)


def test_one_group_only():
    groups = tf.zeros(4, "int32")
    ranks = tf.constant([4, 3, 2, 2**32 - 1], tf.uint32)
    np.testing.assert_array_equal(mixup.partners(groups, ranks), [3, 0, 1, 2])


def test_partners_do_not_depend_on_the_place_in_the_batch():
    index = np.arange(64, dtype="int32")

    def partner_of(order):
        samples = tf.constant(index[order])
        ranks = draws.hashed(0, 3, samples)
        found = mixup.partners(samples // 16, ranks).numpy()
        return dict(zip(samples.numpy(), samples.numpy()[found]))

    straight = partner_of(index)
    assert partner_of(np.random.default_rng(0).permutation(64)) == straight
    half = partner_of(np.arange(32, 64))
    assert half == {k: v for k, v in straight.items() if k >= 32}
    assert all(k != v and k // 16 == v // 16 for k, v in straight.items())
    assert sorted(straight.values()) == list(index)


def test_blend():
    x = tf.constant([[0, 4], [8, 0]], tf.uint8)
    found = mixup.blended(x, tf.constant([1, 0]), tf.constant([0.25, 1.0]))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, [[6.0, 1.0], [8.0, 0.0]])


def test_images_and_labels_are_blended_alike():
    count = 32
    one_hot = tf.eye(count)
    mix = mixup.Mixup(1.0)((0, 0, tf.range(count)), tf.zeros(count, "int32"))
    labels = mix(one_hot).numpy()
    images = mix(tf.reshape(one_hot, (count, count, 1, 1))).numpy()
    np.testing.assert_array_equal(images[:, :, 0, 0], labels)
    np.testing.assert_allclose(labels.sum(1), 1.0, rtol=1e-6)
    weight = np.diag(labels)
    assert (
        0.35 < weight.mean() < 0.65 and weight.min() < 0.2 < 0.8 < weight.max()
    )
    assert (np.count_nonzero(labels, axis=1) == 2).all()
