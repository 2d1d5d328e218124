"""State of the simulated platform, under an injected clock and seed; nothing here does I/O."""

from __future__ import annotations

import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Final

from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.credentials import CredentialStore, MessageSettings
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import DAY, MINUTE, RateWindow, ResetQuota
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.request_log import FailedRequestLog
from wxtcb.sandbox.services.cloudrun import CloudRun, CloudRunService
from wxtcb.sandbox.services.containers import Containers
from wxtcb.sandbox.services.context import HALTED, NORMAL, UNAVAILABLE, ReadyPolicy, ServiceContext
from wxtcb.sandbox.services.database.databases import Databases
from wxtcb.sandbox.services.environment import AccessTokenPolicies, Environment, EnvironmentRegistry
from wxtcb.sandbox.services.functions import Functions
from wxtcb.sandbox.services.hosting import Hosting
from wxtcb.sandbox.services.storage import FileStorage

_APPID: Final = re.compile(r"wx[0-9a-z]{16}")
_LOWER_ALPHANUMERIC: Final = string.ascii_lowercase + string.digits
_CHINA_UTC_OFFSET: Final = 8 * 3600
# Issued tokens are counted apart from the calls of the token path, whose rejected ones must not count.
_ISSUED_TOKENS_KEY: Final = "issued tokens"


def is_valid_appid(appid: str) -> bool:
    """Return whether *appid* is "wx" and 16 characters of a-z0-9; a world treats these as authorised by default."""
    return _APPID.fullmatch(appid) is not None


@frozen
class EnvironmentShare:
    """An environment offered to a mini program.

    The mini program may use it once its administrator has opened `url`; then `confirmed` is True.
    """

    env: str
    appid: str
    source_type: object
    url: str
    confirmed: bool = False


@define(eq=False, kw_only=True)
class World:
    """Everything the platform knows.

    Equal seeds and equal calls make equal worlds, credentials and tokens included. Settings may be changed at any
    time; `ready_after` and `visible_after` apply to later creates.

    - `clock`: seconds, monotonic.
    - `started_at_unix`: Unix time at which the world was made.
    - `token_ttl`: seconds for which a component token is valid.
    - `token_overlap`: seconds for which a token is accepted after a newer one was issued. The platform very likely
      accepts it for 300 s, but promises that nowhere; with the default of 0 a client that relies on it fails.
    - `max_tokens_per_day`: component tokens issued in a clock day before 45009; None for no limit.
    - `ready_after`: when a new environment becomes NORMAL.
    - `visible_after`: seconds until `describeenvs` lists a new environment.
    - `operations_ready_after`: when jobs, functions, versions and websites become ready; each status query is a poll.
    - `base_url`: URL of the sandbox, which sets it when it is entered.
    - `is_authorised`: whether a mini program has authorised the platform, by appid.
    - `minute_limit`, `daily_limit`: calls of a path in a clock minute (then 45011) or day (then 45009). Minutes and
      days begin at multiples of 60 and 86,400 on `clock`.
    - `getcslist_includes_cloudrun`: whether `getcslist` lists the services opened by `establishcloudbaserunserver`.
    """

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    seed: int = 0
    started_at_unix: float = field(factory=time.time)
    token_ttl: int = 7200
    token_overlap: float = 0.0
    max_tokens_per_day: int | None = None
    ready_after: ReadyPolicy = Factory(ReadyPolicy.immediately)
    visible_after: float = 0.0
    operations_ready_after: ReadyPolicy = Factory(ReadyPolicy.immediately)
    base_url: str = "http://127.0.0.1"
    is_authorised: Callable[[str], bool] = field(default=is_valid_appid, repr=False)
    minute_limit: Mapping[str, int] = Factory(dict[str, int])
    daily_limit: Mapping[str, int] = Factory(dict[str, int])
    # The pages leave open whether the older call lists services of the newer family, so tests need both.
    getcslist_includes_cloudrun: bool = True
    shares: dict[tuple[str, str], EnvironmentShare] = field(
        init=False, repr=False, factory=dict[tuple[str, str], EnvironmentShare]
    )
    storage: FileStorage = field(init=False, repr=False)
    databases: Databases = field(init=False, repr=False)
    hosting: Hosting = field(init=False, repr=False)
    functions: Functions = field(init=False, repr=False)
    access_token_policies: AccessTokenPolicies = field(init=False, repr=False)
    cloudrun: CloudRun = field(init=False, repr=False)
    containers: Containers = field(init=False, repr=False)
    credentials: CredentialStore = field(init=False, repr=False)
    message_settings: MessageSettings = field(init=False, repr=False)
    ticket: str = field(init=False, repr=False)
    order_count: int = field(init=False, repr=False, default=0)
    failed_requests: FailedRequestLog = field(init=False, repr=False, factory=FailedRequestLog)
    reset_quota: ResetQuota = field(init=False, repr=False, factory=ResetQuota)
    _registry: EnvironmentRegistry = field(init=False, repr=False, factory=EnvironmentRegistry)
    _random: Random = field(init=False, repr=False)
    _minute_window: RateWindow = field(init=False, repr=False, factory=lambda: RateWindow(MINUTE, 45011))
    _day_window: RateWindow = field(init=False, repr=False, factory=lambda: RateWindow(DAY, 45009))
    _started_at: float = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._started_at = self.clock()
        # One generator for each part: a token more or less must not change the ids of the environments.
        self._random = Random(f"world {self.seed}")
        self.credentials = CredentialStore(Random(f"tokens {self.seed}"))
        self.message_settings = MessageSettings(Random(f"console {self.seed}"))
        self.ticket = self.credentials.issue_ticket(self._started_at)
        # Lambdas read the settings at each use, because tests change them later.
        context = ServiceContext(
            clock=self.clock,
            random=Random(f"cloud {self.seed}"),
            format_now=self._format_now,
            require_normal=self._require_normal,
            operation_policy=lambda: self.operations_ready_after,
            base_url=lambda: self.base_url,
        )
        self.storage = FileStorage(context)
        self.databases = Databases(context, self.storage)
        self.hosting = Hosting(context, self.storage.objects)
        self.functions = Functions(context)
        self.access_token_policies = AccessTokenPolicies(context)
        self.cloudrun = CloudRun(context, lambda: self.ready_after)
        self.containers = Containers(context)

    # Time

    @property
    def unix_offset(self) -> float:
        """Seconds to add to a time on `clock` for the platform's Unix time."""
        return self.started_at_unix - self._started_at

    def unix_time(self) -> float:
        """Return the platform's time of day in Unix seconds; it advances with `clock`."""
        return self.clock() + self.unix_offset

    def current_month(self) -> str:
        """Return the month on the platform's calendar, such as "2020-09"."""
        return self._format_now()[:7]

    def _format_now(self) -> str:
        # The platform writes Chinese local time without an offset.
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.unix_time() + _CHINA_UTC_OFFSET))

    # Tickets and tokens

    @property
    def tokens_issued(self) -> int:
        """Number of component tokens issued."""
        return self.credentials.tokens_issued

    @property
    def forced_expirations(self) -> int:
        """Number of component tokens that `expire_token` ended early."""
        return self.credentials.forced_expirations

    @property
    def ticket_age(self) -> float:
        """Seconds since the newest ticket was issued."""
        return self.clock() - self.credentials.ticket_issued_at(self.ticket)

    def issue_ticket(self) -> str:
        """Issue a newer ticket; older ones stay valid for 12 hours after their own issue."""
        self.ticket = self.credentials.issue_ticket(self.clock())
        return self.ticket

    def issue_token(self) -> str:
        """Issue a component token. Raises 45009 above `max_tokens_per_day`.

        The previous token becomes invalid after `token_overlap`.
        """
        now = self.clock()
        if self.max_tokens_per_day is not None:
            self._day_window.acquire(_ISSUED_TOKENS_KEY, {_ISSUED_TOKENS_KEY: self.max_tokens_per_day}, now)
        return self.credentials.issue_token(now, self.token_ttl, self.token_overlap)

    def expire_token(self) -> bool:
        """Expire the component token early; return False, counting nothing, if none is valid."""
        return self.credentials.expire_token(self.clock())

    # Rate limits and request ids

    def acquire(self, path: str) -> None:
        """Count a call against the limits of its path, or raise `PlatformError` (45011 or 45009)."""
        now = self.clock()
        self._minute_window.acquire(path, self.minute_limit, now)
        self._day_window.acquire(path, self.daily_limit, now)

    def calls_today(self, path: str) -> int:
        """Return the number of calls of a path in this clock day."""
        return self._day_window.count(path, self.clock())

    def reset_calls_today(self, *paths: str) -> None:
        """Set the daily counts of these paths to 0, or of all paths if none is given."""
        self._day_window.clear(*paths)

    def new_request_id(self) -> str:
        """Return a new request id (rid), as error messages end with."""
        digits = f"{self._random.getrandbits(92):023x}"
        return f"6{digits[:7]}-{digits[7:15]}-{digits[15:]}"

    # Environments

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Every environment by id, oldest first, with its current status, including those not yet visible."""
        self._registry.update_statuses(self.clock(), self._format_now())
        return self._registry.environments

    def create(self, alias: str, env_type: str | None = None) -> tuple[str, str]:
        """Create an environment and return order number and id; other environments may have the same alias."""
        self.order_count += 1
        now = self._format_now()
        environment = Environment(self._new_env_id(alias), alias, UNAVAILABLE, now, now, env_type)
        self._registry.create(environment, visible_at=self.clock() + self.visible_after, policy=self.ready_after)
        return f"{now[:10].replace('-', '')}{self.order_count:06d}", environment.env

    def add(self, alias: str, *, env: str | None = None, status: str = NORMAL) -> str:
        """Add an environment that is visible at once, and return its id; one that is UNAVAILABLE stays so."""
        now = self._format_now()
        environment = Environment(env or self._new_env_id(alias), alias, status, now, now)
        self._registry.put(environment)
        return environment.env

    def restore(self, environment: Environment) -> None:
        """Add an environment of an earlier world; one that is UNAVAILABLE starts again when it is listed."""
        if environment.status == UNAVAILABLE:
            self._registry.create(environment, visible_at=self.clock(), policy=self.ready_after)
        else:
            self._registry.put(environment)

    def halt(self, env: str) -> None:
        """Set an environment to HALTED permanently, as over quota. Raises `KeyError` for an unknown id."""
        self._registry.set_status(env, HALTED, self._format_now())

    def remove(self, env: str) -> None:
        """Remove an environment, as if its owner had deleted it in the console. Raises `KeyError` for an unknown id."""
        self._registry.remove(env)

    def poll_environments(self) -> bytes:
        """Count a `describeenvs` poll and return the visible environments as a JSON array."""
        return self._registry.poll(self.clock(), self._format_now())

    def status_of(self, env: str) -> str | None:
        """Return the status of an environment of cloud development or of cloud hosting; None for an unknown id."""
        environment = self.environments.get(env)
        return self.cloudrun.environments.status_of(env) if environment is None else environment.status

    def _require_normal(self, env: str) -> None:
        # -501005, not 40097: the cloud error list defines it as "unknown or not usable", and 40097
        # has to go on meaning "this name exists" for clients that repeat an ambiguous establish.
        status = self.status_of(env)
        if status is None:
            raise platform_error(-501005, f"env_id {env}")
        if status != NORMAL:
            raise platform_error(-501005, f"env_id {env} is {status}")

    def _new_env_id(self, alias: str) -> str:
        return f"{alias}-{self._random_string(16)}"

    def _random_string(self, length: int) -> str:
        return "".join(self._random.choices(_LOWER_ALPHANUMERIC, k=length))

    # Shares

    def share(self, env: str, appid: str, source_type: object) -> EnvironmentShare:
        """Offer an environment to a mini program, each time with a new link; a confirmed share stays confirmed."""
        previous = self.shares.get((env, appid))
        url = f"https://mp.weixin.qq.com/wxa/sandbox/confirm?ticket={self._random_string(24)}"
        share = EnvironmentShare(env, appid, source_type, url, confirmed=previous is not None and previous.confirmed)
        self.shares[env, appid] = share
        return share

    def unshare(self, env: str, appid: str, source_type: object = None) -> bool:
        """Withdraw an environment from a mini program.

        Returns False if it was not shared, or with another source type; a *source_type* of None matches all.
        """
        share = self.shares.get((env, appid))
        if share is None or source_type not in (None, share.source_type):
            return False
        del self.shares[env, appid]
        return True

    def confirm(self, env: str, appid: str) -> None:
        """Confirm a share, as the mini program's administrator does. Raises `KeyError` if it was not offered."""
        self.shares[env, appid] = evolve(self.shares[env, appid], confirmed=True)

    def confirmed_shares(self) -> Iterator[EnvironmentShare]:
        """Return the confirmed shares of environments that still exist."""
        environments = self._registry.environments
        return (share for share in self.shares.values() if share.confirmed and share.env in environments)

    # Cloud-run services

    @property
    def services(self) -> dict[tuple[str, str], CloudRunService]:
        """The cloud-run services by environment and name, oldest first."""
        return self.cloudrun.services

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> CloudRunService:
        """Create a service in a NORMAL environment.

        Raises `PlatformError`: 40097 if the environment has a service of this name, -501005 if it is not NORMAL.
        """
        return self.cloudrun.establish(env, name, body)

    def listed_services(self, env: str) -> list[CloudRunService]:
        """Return the services of an environment that `getcslist` lists, oldest first.

        Raises `PlatformError` (-501005) for an unknown environment.
        """
        if self.status_of(env) is None:
            raise platform_error(-501005, f"env {env}")
        if not self.getcslist_includes_cloudrun:
            return []
        return [service for service in self.services.values() if service.env == env]


# What a handler returns is the reply, or its fields besides errcode and errmsg.
Handler = Callable[[World, Body], bytes | Mapping[str, object] | None]
