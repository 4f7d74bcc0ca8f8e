"""Work on codes and pictures: distances between sets of pictures, lines between codes, figures, sheets."""
