"""Simulated groups of calls: one module or package per group, with the state and the handlers of its calls."""
