"""Tests of token life."""
