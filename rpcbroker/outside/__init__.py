"""What rule chains reach through ports: other servers, and processes that run scripts."""
