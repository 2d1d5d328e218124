"""The cloud-hosting environments, a list of their own beside that of cloud development."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import Ground, Ripening
from wxtcb.sandbox.environments import HALTED, NORMAL, UNAVAILABLE, Ready

__all__ = ["HostedEnvironment", "HostedEnvironments"]

_REGION: Final = "ap-shanghai"


@define(eq=False)
class HostedEnvironment:
    """A cloud-hosting environment: `delivery` is that of itself, `database` that of its database, if it has one."""

    env_id: str
    alias: str
    create_time: str
    update_time: str
    delivery: Ripening = field(repr=False)
    database: Ripening | None = field(repr=False)
    vpc_id: str | None = None
    subnet_ids: Sequence[str] = ()
    halted: bool = False

    def status(self, now: float) -> str:
        """Tell how it stands."""
        if self.halted:
            return HALTED
        return NORMAL if self.delivery.is_ready(now) else UNAVAILABLE

    def look(self, now: float) -> dict[str, object]:
        """Count a look and return the row that it shows."""
        self.delivery.look(now)
        running = self.database is not None and self.database.look(now)
        return _row(self, self.status(now), "RUNNING" if running else "INITIALIZING")


@define(eq=False)
class HostedEnvironments:
    """Owner of the cloud-hosting environments; `after` says when one that is opened now will be NORMAL.

    Their databases take the time of an operation. A look is a `describecloudbaserunenvs` call.
    """

    _ground: Ground = field(repr=False)
    _after: Callable[[], Ready] = field(repr=False)
    _rows: dict[str, HostedEnvironment] = field(init=False, factory=dict[str, HostedEnvironment])
    _orders: int = field(init=False, default=0)

    def create(self, alias: str | None, vpc_id: str | None, subnet_ids: Sequence[str]) -> tuple[str, str]:
        """Open another environment, whatever others of this alias there are; its order number and id come back."""
        stamp, delivery = self._ground.stamp(), Ripening(self._ground.clock(), self._after())
        row = HostedEnvironment(self._new_id(alias or "env"), alias or "", stamp, stamp, delivery, self._ground.begin())
        row.vpc_id, row.subnet_ids = vpc_id, tuple(subnet_ids)
        self._rows[row.env_id] = row
        self._orders += 1
        return f"{stamp[:10].replace('-', '')}{self._orders:06d}", row.env_id

    def add(self, alias: str, *, database: bool = True) -> str:
        """Set the scene: an environment that is NORMAL already, its database, if it has one, RUNNING."""
        stamp, done = self._ground.stamp(), Ripening(self._ground.clock(), Ready.at_once(), looks=1)
        row = HostedEnvironment(self._new_id(alias), alias, stamp, stamp, done, done if database else None)
        self._rows[row.env_id] = row
        return row.env_id

    def halt(self, env_id: str) -> None:
        """Stop an environment as the platform does over quota: HALTED for good. Unknown id: KeyError."""
        row = self._rows[env_id]
        row.halted, row.update_time = True, self._ground.stamp()

    def remove(self, env_id: str) -> None:
        """Take an environment away as if its owner had deleted it elsewhere. Unknown id: KeyError."""
        del self._rows[env_id]

    def get(self, env_id: str) -> HostedEnvironment | None:
        """Return an environment, or None if there is none of this id."""
        return self._rows.get(env_id)

    def status_of(self, env_id: str) -> str | None:
        """Tell how an environment stands, without counting a look; None if there is none of this id."""
        row = self._rows.get(env_id)
        return None if row is None else row.status(self._ground.clock())

    def look(self) -> list[dict[str, object]]:
        """Count a look and return the rows that it shows, oldest first."""
        now = self._ground.clock()
        return [row.look(now) for row in self._rows.values()]

    def _new_id(self, alias: str) -> str:
        return f"{alias}-{self._ground.random.getrandbits(64):016x}"


def _row(env: HostedEnvironment, status: str, database: str) -> dict[str, object]:
    bucket = f"7778-{env.env_id}-1308820263"
    tnt = {"instance_id": f"tnt-{env.env_id[-9:]}", "status": database, "region": _REGION}
    return {
        "env_id": env.env_id,
        "source": "miniapp",
        "alias": env.alias,
        "create_time": env.create_time,
        "update_time": env.update_time,
        "status": status,
        "databases": [tnt] if env.database else [],
        "storages": [
            {"region": _REGION, "bucket": bucket, "cdn_domain": f"{bucket}.tcb.qcloud.la", "app_id": "1308820263"}
        ],
        "functions": [{"namespace": "", "region": ""}],
        "package_id": "",
        "package_name": "",
        "log_services": [],
        "static_storages": None,
        "is_auto_degrade": False,
        "env_channel": "wxrun",
        "pay_mode": "postpaid",
        "is_default": False,
        "region": _REGION,
        "tags": [],
        "custom_log_services": None,
    }
