"""Studies: grids and searches of runs, shared by workers, and what they show."""
