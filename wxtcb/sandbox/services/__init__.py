"""State of the simulated cloud, one module per group of calls."""
