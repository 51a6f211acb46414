"""`python -m roadrisk` is the command line."""

from roadrisk.cli import main

main()
