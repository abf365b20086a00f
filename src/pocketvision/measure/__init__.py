"""Numbers about a network on a machine: counted, timed, compared."""
