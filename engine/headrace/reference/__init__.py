"""Plain NumPy twins of the kernels; imported by tests only."""
