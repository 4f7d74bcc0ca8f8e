"""Files from strangers: the one door through which every path is opened, and readers that execute nothing."""
