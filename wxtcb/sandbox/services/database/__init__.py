"""Collections and records of the environments."""
