"""The way of bytes to and from object storage (COS), which the platform only gives signed links to.

No token of the platform goes there, and no URL, signature or error of aiohttp's comes out of here: all of them are
secrets, or hold some.
"""
