"""The device side: each transport turns a protocol into links and replies."""
