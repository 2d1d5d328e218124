"""Collections and records of the environments."""

from wxtcb.sandbox.services.database.databases import Databases

__all__ = ["Databases"]
