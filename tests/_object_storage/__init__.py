"""Transfers to and from object storage."""
