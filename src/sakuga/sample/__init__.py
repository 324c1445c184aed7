"""Time grids, solvers and guidance over any velocity."""
