"""Replicas and several machines: all that knows there is more than one."""
