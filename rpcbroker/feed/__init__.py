"""The feed: who watches the traffic of RPC, and takes part in it, over WAMP and WebSockets."""
