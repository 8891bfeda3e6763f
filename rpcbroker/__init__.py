"""rpcbroker: a single-process IoT RPC broker on Twisted, wire-compatible with ThingsBoard's RPC."""

__version__ = "0.1.0"
