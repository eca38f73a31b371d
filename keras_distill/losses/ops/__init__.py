"""Pure functions that several losses share."""
