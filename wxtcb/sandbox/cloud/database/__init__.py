"""The collections and records of the environments."""

from wxtcb.sandbox.cloud.database.databases import Databases

__all__ = ["Databases"]
