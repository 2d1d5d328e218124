"""HTTP layer: transports, retry policy, and the executor that runs one call."""
