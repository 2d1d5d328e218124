"""Tenants to environments, shares and services, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, cast

import anyio
import attrs

from wxtcb.arguments import check_count, check_kind, check_seconds, field_is, is_loopback
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.provision.crew import Pace
from wxtcb.provision.run import Run
from wxtcb.provision.spec import Tenant, check_distinct, check_name
from wxtcb.provision.work import Work
from wxtcb.session import Session


def _check_session(name: str, value: object) -> None:
    check_kind(name, value, Session)
    base_url = cast("Session", value).base_url
    if not is_loopback(base_url):
        raise InvalidArgument(
            f"{name}: {base_url} is not on this machine. Nothing is kept on disk yet, so a crash would lose track of "
            "environments that are billed: until then provisioning runs against the sandbox or loopback only"
        )


@attrs.define(eq=False)
class Provisioner:
    """Takes tenants through environment, NORMAL, share and services; a failure of one is no other's.

    ``async with Provisioner(session) as p: report = await p.apply(tenants).wait()``. Leaving the block cancels what
    still runs.

    At most `concurrency` creates, and as many shares and services, are under way at a time. A tenant whose environment
    is being delivered holds no worker: one look every `interval` seconds serves all of them, and one that is not NORMAL
    `timeout` seconds after its create has failed. After `max_failures` failed tenants no other is started. `grace` is
    how long a cancelled run waits for answers. `namespace` goes into derived aliases: see `alias_of`.

    Before a create it looks whether the alias is taken; then nothing is done for that tenant (`conflict`, or
    `duplicate` if by several). A create without a clear answer is reported `unknown`, and neither sent again nor
    followed by another step; a service is sent again under its name, which makes no second one. An error that would
    meet everybody (ticket, secret, address, permission, a closed session) stops the run, and an exhausted quota the
    creates; the rest is reported `unfinished`.

    The limits of this form: nothing is kept on disk, so a crash loses track of environments that are billed, and a
    session on any platform but the sandbox or loopback is refused (`InvalidArgument`); two
    programs at work on the same aliases do not know of each other; found environments are not adopted.
    """

    session: Session = attrs.field(validator=field_is(_check_session))
    concurrency: int = attrs.field(default=16, kw_only=True, validator=field_is(check_count))
    timeout: float = attrs.field(default=600.0, kw_only=True, validator=field_is(check_seconds))
    interval: float = attrs.field(default=5.0, kw_only=True, validator=field_is(check_seconds))
    grace: float = attrs.field(default=5.0, kw_only=True, validator=field_is(check_seconds))
    max_failures: int | None = attrs.field(default=None, kw_only=True, validator=field_is(check_count, optional=True))
    namespace: str | None = attrs.field(default=None, kw_only=True, validator=field_is(check_name, optional=True))
    _runs: list[Run] = attrs.field(init=False, factory=list[Run])
    _open: bool = attrs.field(init=False, default=False)

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open = False
        grace = self.grace if kind is None else 0.0
        with anyio.CancelScope(shield=True):
            for run in self._runs:
                await run.cancel(grace=grace)

    def apply(self, tenants: Iterable[Tenant]) -> Run:
        """Start to provision *tenants*; all of them are checked before anything is sent.

        Raises `InvalidArgument` for two with the same name or alias, and for an alias that another run of this
        provisioner works on; `SessionClosed`, `WrongLoop`.
        """
        if not self._open:
            raise SessionClosed("the provisioner is not open: use it inside `async with`; nothing was sent")
        namespace = self.namespace or self.session.component_appid
        wanted = tuple(tenants)
        check_distinct(wanted, namespace)
        works = tuple(Work(tenant, tenant.alias_in(namespace)) for tenant in wanted)
        self._refuse_overlap(works)
        run = Run(self.session, works, self._pace())
        self._runs.append(run)
        return run

    def _refuse_overlap(self, works: tuple[Work, ...]) -> None:
        self._runs = [run for run in self._runs if not run.ended]
        busy = frozenset[str]().union(*(run.aliases for run in self._runs))
        for work in works:
            if work.alias.lower() in busy:
                message = f"alias {work.alias!r} of tenant {work.tenant.name!r} is being worked on by another run"
                raise InvalidArgument(f"{message}; nothing was sent. Wait for that one first")

    def _pace(self) -> Pace:
        return Pace(
            concurrency=self.concurrency,
            timeout=self.timeout,
            interval=self.interval,
            grace=self.grace,
            max_failures=self.max_failures,
        )
