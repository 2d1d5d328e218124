"""Pushes of the simulated platform: schedule, encryption, and delivery to a receiver."""
