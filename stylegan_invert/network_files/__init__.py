"""Network files as data: reading and writing them for all families. Nothing that is read here is ever executed."""
