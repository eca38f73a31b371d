import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill._data.batch_fields import unpacked
from keras_distill.views import draws
from keras_distill.views import mixup
from keras_distill.views.mixup import check_groups


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
    index = tf.range(count)
    mix = kd.views.Mixup().blender((0, 0, index), index, whole_batch=True)
    labels = mix(one_hot).numpy()
    images = mix(tf.reshape(one_hot, (count, count, 1, 1))).numpy()
    np.testing.assert_array_equal(images[:, :, 0, 0], labels)
    np.testing.assert_allclose(labels.sum(1), 1.0, rtol=1e-6)
    weight = np.diag(labels)
    assert (
        0.35 < weight.mean() < 0.65 and weight.min() < 0.2 < 0.8 < weight.max()
    )
    assert (np.count_nonzero(labels, axis=1) == 2).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(concentration=0), "concentration"),
        (dict(group_size=1), "of at least 2"),
        (dict(num_classes=1), "num_classes"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        kd.views.Mixup(**arguments)


# Groups.


def samples(count=70):
    x = np.arange(count, dtype="float32")[:, None]
    return tf.data.Dataset.from_tensor_slices((x, np.arange(count)))


def indices(dataset):
    return [unpacked(x).sample_index.numpy() for x, _ in dataset]


def test_groups_stay_whole_while_they_are_shuffled():
    data = kd.views.grouped_batches(
        samples(), 32, group_size=8, shuffle_buffer_size=70, seed=0
    )
    first, second = indices(data), indices(data)
    assert int(data.cardinality()) == len(first)
    assert [len(part) for part in first] == [32, 32, 6]
    for part in first:
        check_groups(part, 8)
    everything = np.concatenate(first)
    assert sorted(everything) == list(range(70))
    assert not np.array_equal(everything, np.sort(everything))
    assert not np.array_equal(everything, np.concatenate(second))
    for x, y in data:
        np.testing.assert_array_equal(unpacked(x).inputs[:, 0], y)


def test_order_without_shuffling_and_index_of_before():
    data = kd.views.grouped_batches(
        kd.views.indexed(samples()), 16, drop_remainder=True
    )
    np.testing.assert_array_equal(np.concatenate(indices(data)), np.arange(64))
    assert int(data.cardinality()) == 4


def test_arrays_in_groups():
    x = np.arange(50)
    stream = kd.datasets.batches(
        x, x, 16, seed=0, indexed=True, group_size=8
    ).take(8)
    for part in indices(stream):
        check_groups(part, 8)
    epochs = [unpacked(x).epoch.numpy() for x, _ in stream]
    assert [set(e) for e in epochs] == [{0}] * 4 + [{1}] * 4
    first = np.concatenate(indices(stream)[:4])
    assert sorted(first) == list(x)
    assert not np.array_equal(first, x)


def test_check_groups():
    check_groups(np.arange(32), 16)
    check_groups(np.arange(32), 16, replicas=2)
    check_groups(np.arange(40), 16)  # the last group has fewer
    with pytest.raises(ValueError, match="sample 0 only 8.*1 / 4 of a batch"):
        check_groups(np.arange(32), 16, replicas=4)
    with pytest.raises(ValueError, match="group of sample 16 only 15 are"):
        check_groups(np.r_[0:31, 47], 16)
    check_groups(np.r_[16:40, 0:16], 16)  # a shuffled data set in one batch


@pytest.mark.parametrize(
    "index",
    [
        np.r_[0:16, 24:32],  # the second half of a group
        np.r_[0:16, 32:40],  # there is a gap, so there are more batches
        np.r_[8:24],
        np.r_[0:16, 16:32, 16],
    ],
    ids=str,
)
def test_parts_of_groups_that_are_not_the_last(index):
    with pytest.raises(ValueError, match="group of sample"):
        check_groups(index, 16)


def test_bad_batches():
    with pytest.raises(ValueError, match="batch_size=24, group_size=16"):
        kd.views.grouped_batches(samples(), 24)
    with pytest.raises(ValueError, match="assert_cardinality"):
        kd.views.grouped_batches(samples().filter(lambda x, y: True), 32)
    with pytest.raises(ValueError, match="multiple of `group_size`"):
        kd.datasets.batches(np.arange(9), batch_size=6, group_size=4)
