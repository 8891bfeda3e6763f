"""The front door: the HTTP site with its limits and deadlines."""
