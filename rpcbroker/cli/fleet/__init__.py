"""Fleets in files: what `rpcbroker device import` reads and `rpcbroker device export` writes."""
