"""The way of bytes to and from object storage."""
