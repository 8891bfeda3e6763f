"""Bytes to values and back: standard library only, no clock, no I/O."""
