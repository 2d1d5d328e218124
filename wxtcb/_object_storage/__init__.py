"""Uploads to and downloads from object storage (COS, 对象存储), for which the platform issues signed links.

The platform's token is never sent there. No URL, signature or aiohttp exception leaves this package, because they are
secrets or hold some.
"""
