"""Long trials with real processes, servers and clocks."""
