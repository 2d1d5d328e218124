"""Pushes of the simulated platform: tickets and other messages, encrypted and delivered over HTTP."""
