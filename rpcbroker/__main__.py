"""`python -m rpcbroker`."""

from rpcbroker.cli.main import main

main()
