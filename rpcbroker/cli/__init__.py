"""The command line `rpcbroker`: it talks REST to a running broker."""
