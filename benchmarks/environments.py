"""The reply of `environment.describe_envs` as the platform sends it, of any length."""

from __future__ import annotations

import orjson


def environment_list(count: int) -> bytes:
    """Return the JSON of *count* environments, about 270 bytes each."""
    return orjson.dumps({"errcode": 0, "errmsg": "ok", "info_list": [_environment(number) for number in range(count)]})


def _environment(number: int) -> dict[str, str]:
    alias = f"tenant-{number:05}"
    return {
        "env": f"{alias}-4a89da0c1f",
        "alias": alias,
        "create_time": f"2025-11-22 {number % 24:02}:{number % 60:02}:28",
        "update_time": f"2025-11-22 {number % 24:02}:{number % 60:02}:36",
        "status": "NORMAL",
        "package_id": "basic",
        "package_name": "基础版",
        "dbinstance_id": f"tnt-{number:08}x",
        "bucket_id": f"7465-{alias}-4a89da0c1f-1301234567",
    }
