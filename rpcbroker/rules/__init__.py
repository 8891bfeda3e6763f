"""Rule chains: graphs of nodes that messages from devices and callers pass. No HTTP and no process here: see ports."""
