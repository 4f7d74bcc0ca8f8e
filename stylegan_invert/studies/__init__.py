"""The experiments of the papers, one file per paper, callable from Python."""
