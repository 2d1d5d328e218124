"""Tests of bulk provisioning."""
