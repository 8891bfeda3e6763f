"""What the broker is: devices, sessions, calls. Deferreds and a clock; no bytes of a protocol, no HTTP."""
