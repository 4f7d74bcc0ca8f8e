"""One file per kind of network file: how its networks are found, checked and built."""
