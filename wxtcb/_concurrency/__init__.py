"""Concurrency primitives: request limiter, single flight, shared polling, background tasks."""
