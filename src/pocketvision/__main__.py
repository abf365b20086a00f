"""`python -m pocketvision` is the command `pocketvision`."""

from pocketvision.cli.app import main

main()
