"""The ``pli`` command: one module for each family of subcommands."""
