"""From numbers to words: which regime this is, and what to do in it.

The thresholds were measured on Fashion-MNIST (training images only), with
students of 1 000 to 75 000 parameters on 500 to 20 000 images, each trained
alone as `kd.diagnose` does: 1000 steps of 128 images.
"""

import math

# Limited by data: the cross-entropy on validation data is higher than that on
# training data by this part of it, and by two standard errors. Measured:
# GAP_TABLE
GAP = 0.1
STANDARD_ERRORS = 2.0
