"""Network files of all families, read and written as data. Nothing in a file is ever executed."""
