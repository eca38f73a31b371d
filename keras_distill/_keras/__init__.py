"""Everything that touches what Keras keeps private.

A new release of Keras is audited here: nothing outside of this folder reads a
name of Keras that begins with an underscore.
"""
