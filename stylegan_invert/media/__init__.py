"""The kinds of output that generators make, and how they are read and written: pictures, and videos of them."""
