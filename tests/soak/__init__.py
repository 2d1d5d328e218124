"""Long tests with real processes, servers and clocks."""
