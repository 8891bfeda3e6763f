"""The command line. A command in a file; `main` knows their names and loads only the one that is used."""
