"""Everything that touches what Keras keeps private.

Audit this folder at each release of Keras: each header lists what its file
relies on and in which releases that was checked. `tests/_keras/test_private.py`
fails if code outside of this folder reads a private name of Keras.
"""
