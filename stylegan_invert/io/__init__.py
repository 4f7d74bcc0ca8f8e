"""Files as data: networks, codes, pictures, downloads. Nothing that is read here is ever executed."""
