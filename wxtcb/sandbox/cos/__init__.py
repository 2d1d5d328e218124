"""Simulated Tencent Cloud COS (对象存储), the object storage to which the signed links of the platform lead."""
