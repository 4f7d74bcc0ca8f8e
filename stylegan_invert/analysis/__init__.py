"""What is done with codes and pictures once they are there: distances between sets of pictures, studies, sheets."""
