"""Imported for its effect: graphs run as they were traced.

Optimizing a graph takes longer than the few steps of a test. Processes whose
weights a test compares bit by bit have to do the same.
"""

import tensorflow as tf

tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
