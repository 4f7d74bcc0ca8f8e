"""The networks, one family per file. Plain modules: no files, no losses, no devices in here."""
