"""The command line: parse, call, write. One file per command; torch is imported when a command runs, not for its help."""
