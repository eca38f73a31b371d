"""What `fit` accepts: one iterator over it, and one look at its first batch."""
