"""What a black box calls.

A source is a function from a NumPy array (from a dict of them, if it has
several inputs) to one array, with these attributes:

- `source_sha256`: 64 hexadecimal digits;
- `inputs`: a dict name -> (shape of one sample, dtype), if it knows them;
- `activation`: `"softmax"` or `"sigmoid"` if it knows that it ends so;
- `class_names`: a list of names, or `None`.
"""
