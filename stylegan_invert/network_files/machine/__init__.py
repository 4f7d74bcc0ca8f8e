"""The machine that reads pickles and zips as data, whatever they hold."""
