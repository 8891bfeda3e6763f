"""The kinds of nodes: `table` has all of them by the names that exported chains use."""
