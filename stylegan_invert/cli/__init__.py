"""The command line, one file per command.

A command parses its options, calls the package, and writes files. Torch is imported when a command runs, not for
``--help``.
"""
