"""What `rpcbroker doctor` looks at, one small function a check."""
