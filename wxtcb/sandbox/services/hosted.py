"""The cloud-hosting environments, a list of their own beside that of cloud development."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.environments import HALTED, NORMAL, UNAVAILABLE, ReadyPolicy

__all__ = ["CloudRunEnvironment", "CloudRunEnvironments"]

_REGION: Final = "ap-shanghai"


@define(eq=False)
class CloudRunEnvironment:
    """A cloud-hosting environment: `readiness` is that of itself, `database` that of its database, if it has one."""

    env_id: str
    alias: str
    create_time: str
    update_time: str
    readiness: Readiness = field(repr=False)
    database_readiness: Readiness | None = field(repr=False)
    vpc_id: str | None = None
    subnet_ids: Sequence[str] = ()
    halted: bool = False

    def status(self, now: float) -> str:
        """Tell how it stands."""
        if self.halted:
            return HALTED
        return NORMAL if self.readiness.is_ready(now) else UNAVAILABLE

    def poll(self, now: float) -> dict[str, object]:
        """Count a look and return the row that it shows."""
        self.readiness.poll(now)
        running = self.database_readiness is not None and self.database_readiness.poll(now)
        return _environment_row(self, self.status(now), "RUNNING" if running else "INITIALIZING")


@define(eq=False)
class CloudRunEnvironments:
    """Owner of the cloud-hosting environments; `after` says when one that is opened now will be NORMAL.

    Their databases take the time of an operation. A look is a `describecloudbaserunenvs` call.
    """

    _context: ServiceContext = field(repr=False)
    _ready_policy: Callable[[], ReadyPolicy] = field(repr=False)
    _environments: dict[str, CloudRunEnvironment] = field(init=False, factory=dict[str, CloudRunEnvironment])
    _order_count: int = field(init=False, default=0)

    def create(self, alias: str | None, vpc_id: str | None, subnet_ids: Sequence[str]) -> tuple[str, str]:
        """Open another environment, whatever others of this alias there are; its order number and id come back."""
        stamp, delivery = self._context.format_now(), Readiness(self._context.clock(), self._ready_policy())
        row = CloudRunEnvironment(
            self._new_id(alias or "env"), alias or "", stamp, stamp, delivery, self._context.start_operation()
        )
        row.vpc_id, row.subnet_ids = vpc_id, tuple(subnet_ids)
        self._environments[row.env_id] = row
        self._order_count += 1
        return f"{stamp[:10].replace('-', '')}{self._order_count:06d}", row.env_id

    def add(self, alias: str, *, with_database: bool = True) -> str:
        """Set the scene: an environment that is NORMAL already, its database, if it has one, RUNNING."""
        stamp, done = (
            self._context.format_now(),
            Readiness(self._context.clock(), ReadyPolicy.immediately(), poll_count=1),
        )
        row = CloudRunEnvironment(self._new_id(alias), alias, stamp, stamp, done, done if with_database else None)
        self._environments[row.env_id] = row
        return row.env_id

    def halt(self, env_id: str) -> None:
        """Stop an environment as the platform does over quota: HALTED for good. Unknown id: KeyError."""
        row = self._environments[env_id]
        row.halted, row.update_time = True, self._context.format_now()

    def remove(self, env_id: str) -> None:
        """Take an environment away as if its owner had deleted it elsewhere. Unknown id: KeyError."""
        del self._environments[env_id]

    def get(self, env_id: str) -> CloudRunEnvironment | None:
        """Return an environment, or None if there is none of this id."""
        return self._environments.get(env_id)

    def status_of(self, env_id: str) -> str | None:
        """Tell how an environment stands, without counting a look; None if there is none of this id."""
        row = self._environments.get(env_id)
        return None if row is None else row.status(self._context.clock())

    def poll(self) -> list[dict[str, object]]:
        """Count a look and return the rows that it shows, oldest first."""
        now = self._context.clock()
        return [row.poll(now) for row in self._environments.values()]

    def _new_id(self, alias: str) -> str:
        return f"{alias}-{self._context.random.getrandbits(64):016x}"


def _environment_row(env: CloudRunEnvironment, status: str, database_status: str) -> dict[str, object]:
    bucket = f"7778-{env.env_id}-1308820263"
    tnt = {"instance_id": f"tnt-{env.env_id[-9:]}", "status": database_status, "region": _REGION}
    return {
        "env_id": env.env_id,
        "source": "miniapp",
        "alias": env.alias,
        "create_time": env.create_time,
        "update_time": env.update_time,
        "status": status,
        "databases": [tnt] if env.database_readiness else [],
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
