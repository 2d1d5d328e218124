"""The parts of the simulated cloud: what each environment holds, one module per group of calls."""
