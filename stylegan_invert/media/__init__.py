"""What generators make, and how it is read and written: pictures and videos."""
