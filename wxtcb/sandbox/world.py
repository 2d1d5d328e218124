"""The state of the simulated platform, under a clock and a seed that are passed in; nothing here does I/O."""

from __future__ import annotations

import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Final

from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.context import ServiceContext
from wxtcb.sandbox.credentials import CredentialStore, MessageSettings
from wxtcb.sandbox.environments import HALTED, NORMAL, UNAVAILABLE, Environment, EnvironmentRegistry, ReadyPolicy
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.limits import DAY, MINUTE, RateWindow, ResetQuota
from wxtcb.sandbox.request_ids import FailedRequestLog
from wxtcb.sandbox.services.access_token import AccessTokenPolicies
from wxtcb.sandbox.services.cloudrun import CloudRun, Service
from wxtcb.sandbox.services.containers import Containers
from wxtcb.sandbox.services.database import Databases
from wxtcb.sandbox.services.functions import Functions
from wxtcb.sandbox.services.hosting import Hosting
from wxtcb.sandbox.services.storage import Storage

__all__ = ["Service", "Share", "World", "is_valid_appid"]

_APPID: Final = re.compile(r"wx[0-9a-z]{16}")
_LOWER: Final = string.ascii_lowercase + string.digits
_CHINA_UTC_OFFSET: Final = 8 * 3600
_TOKEN_LIMIT_KEY: Final = "mint"


def is_valid_appid(appid: str) -> bool:
    """Say whether this has the shape of an appid; a world without a rule of its own authorises all that do."""
    return _APPID.fullmatch(appid) is not None


@frozen
class Share:
    """An environment offered to a mini program, which may use it once its administrator has `confirmed_shares` at `url`."""

    env: str
    appid: str
    source_type: object
    url: str
    confirmed: bool = False


@define(eq=False, kw_only=True)
class World:
    """What the platform knows. Equal seed, equal calls: equal world, credentials and tokens included.

    `max_tokens_per_day`: tokens a clock day allows before 45009. `visible_after`: seconds until `describeenvs` shows a new
    environment. `minute_limit` and `daily_limit` map a path to the calls allowed in a clock minute (45011) or day
    (45009); minutes and days begin at multiples of 60 and 86,400 on `clock`. `started_at_unix` is the Unix time of the moment
    the world is made. `operations_ready_after` says when jobs, functions, versions and websites get ready, each look at them
    counted; `base_url` is the sandbox's own URL. `getcslist_includes_cloudrun` False: `getcslist` does not know what
    `establishcloudbaserunserver` opened, like a list of the older family alone. Settings may be changed while it runs;
    `ready_after` and `visible_after` hold for later creates.
    """

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    seed: int = 0
    started_at_unix: float = field(factory=time.time)
    token_ttl: int = 7200
    max_tokens_per_day: int | None = None
    ready_after: ReadyPolicy = Factory(ReadyPolicy.immediately)
    visible_after: float = 0.0
    operations_ready_after: ReadyPolicy = Factory(ReadyPolicy.immediately)
    base_url: str = "http://127.0.0.1"
    is_authorised: Callable[[str], bool] = field(default=is_valid_appid, repr=False)
    minute_limit: Mapping[str, int] = Factory(dict[str, int])
    daily_limit: Mapping[str, int] = Factory(dict[str, int])
    getcslist_includes_cloudrun: bool = True
    shares: dict[tuple[str, str], Share] = field(init=False, repr=False, factory=dict[tuple[str, str], Share])
    storage: Storage = field(init=False, repr=False)
    databases: Databases = field(init=False, repr=False)
    hosting: Hosting = field(init=False, repr=False)
    functions: Functions = field(init=False, repr=False)
    access_token_policies: AccessTokenPolicies = field(init=False, repr=False)
    cloudrun: CloudRun = field(init=False, repr=False)
    containers: Containers = field(init=False, repr=False)
    credentials: CredentialStore = field(init=False, repr=False)
    message_settings: MessageSettings = field(init=False, repr=False)
    ticket: str = field(init=False, repr=False)
    failed_requests: FailedRequestLog = field(init=False, repr=False, factory=FailedRequestLog)
    reset_quota: ResetQuota = field(init=False, repr=False, factory=ResetQuota)
    _registry: EnvironmentRegistry = field(init=False, repr=False, factory=EnvironmentRegistry)
    _random: Random = field(init=False, repr=False)
    _minute_window: RateWindow = field(init=False, repr=False, factory=lambda: RateWindow(MINUTE, 45011))
    _day_window: RateWindow = field(init=False, repr=False, factory=lambda: RateWindow(DAY, 45009))
    _started_at: float = field(init=False, repr=False)
    _order_count: int = field(init=False, repr=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._started_at = self.clock()
        self._random = Random(f"world {self.seed}")
        self.credentials = CredentialStore(Random(f"tokens {self.seed}"))
        self.message_settings = MessageSettings(Random(f"console {self.seed}"))
        self.ticket = self.credentials.issue_ticket(self._started_at)
        ground = ServiceContext(
            clock=self.clock,
            random=Random(f"cloud {self.seed}"),
            format_now=self._format_now,
            require_normal=self._require_normal,
            operation_policy=lambda: self.operations_ready_after,
            base_url=lambda: self.base_url,
        )
        self.storage = Storage(ground)
        self.databases = Databases(ground, self.storage)
        self.hosting = Hosting(ground, self.storage.objects)
        self.functions = Functions(ground)
        self.access_token_policies = AccessTokenPolicies(ground)
        self.cloudrun = CloudRun(ground, lambda: self.ready_after)
        self.containers = Containers(ground)

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Every environment by id, oldest first, statuses as of now, those not yet visible included."""
        self._registry.update_statuses(self.clock(), self._format_now())
        return self._registry.environments

    @property
    def services(self) -> dict[tuple[str, str], Service]:
        """The cloud-run services by environment and name, oldest first."""
        return self.cloudrun.services

    @property
    def tokens_issued(self) -> int:
        """How many component tokens were handed out."""
        return self.credentials.tokens_issued

    @property
    def forced_expirations(self) -> int:
        """How many living component tokens were ended before their time."""
        return self.credentials.forced_expirations

    def expire_token(self) -> bool:
        """End the living component token; False, and nothing counted, if none lives."""
        return self.credentials.expire_token(self.clock())

    def issue_ticket(self) -> str:
        """Issue a newer ticket; the older one stays good for its twelve hours."""
        self.ticket = self.credentials.issue_ticket(self.clock())
        return self.ticket

    @property
    def ticket_age(self) -> float:
        """The seconds since the newest ticket was issued."""
        return self.clock() - self.credentials.ticket_issued_at(self.ticket)

    def unix_time(self) -> float:
        """Tell the time of day of the simulated platform, in Unix seconds."""
        return self.started_at_unix + self.clock() - self._started_at

    def acquire(self, path: str) -> None:
        """Count a call against the limits of its path, or refuse it with 45011 or 45009."""
        now = self.clock()
        self._minute_window.acquire(path, self.minute_limit, now)
        self._day_window.acquire(path, self.daily_limit, now)

    def calls_today(self, path: str) -> int:
        """Return how many calls of a path the clock day has had."""
        return self._day_window.count(path, self.clock())

    def reset_calls_today(self, *paths: str) -> None:
        """Count the calls of the day from 0 again, on these paths, or on all if none is named."""
        self._day_window.clear(*paths)

    def current_month(self) -> str:
        """Return the month on the platform's calendar."""
        return self._format_now()[:7]

    def issue_token(self) -> str:
        """Hand out a component token, which voids the one before."""
        now = self.clock()
        if self.max_tokens_per_day is not None:
            self._day_window.acquire(_TOKEN_LIMIT_KEY, {_TOKEN_LIMIT_KEY: self.max_tokens_per_day}, now)
        return self.credentials.issue_token(now, self.token_ttl)

    def create(self, alias: str, env_type: str | None = None) -> tuple[str, str]:
        """Open another environment, whatever others of this alias there are; the order number and its id come back."""
        self._order_count += 1
        stamp = self._format_now()
        row = Environment(self._new_id(alias), alias, UNAVAILABLE, stamp, stamp, env_type)
        self._registry.create(row, visible_at=self.clock() + self.visible_after, policy=self.ready_after)
        return f"{stamp[:10].replace('-', '')}{self._order_count:06d}", row.env

    def add(self, alias: str, *, env: str | None = None, status: str = NORMAL) -> str:
        """Set the scene: an environment that is there and visible already; one that is UNAVAILABLE stays so."""
        stamp = self._format_now()
        row = Environment(env or self._new_id(alias), alias, status, stamp, stamp)
        self._registry.put(row)
        return row.env

    def halt(self, env: str) -> None:
        """Stop an environment as the platform does over quota: HALTED for good. Unknown id: KeyError."""
        self._registry.set_status(env, HALTED, self._format_now())

    def remove(self, env: str) -> None:
        """Take an environment away as if its owner had deleted it elsewhere. Unknown id: KeyError."""
        self._registry.remove(env)

    def poll_environments(self) -> bytes:
        """Count a `describeenvs` look and return the environments it shows as a JSON array."""
        return self._registry.poll(self.clock(), self._format_now())

    def share(self, env: str, appid: str, source_type: object) -> Share:
        """Offer an environment to a mini program; each offer, a repeated one too, gets a link of its own.

        What was confirmed stays so.
        """
        known = self.shares.get((env, appid))
        url = f"https://mp.weixin.qq.com/wxa/sandbox/confirm?ticket={self._random_string(24)}"
        share = Share(env, appid, source_type, url, confirmed=known is not None and known.confirmed)
        self.shares[env, appid] = share
        return share

    def unshare(self, env: str, appid: str, source_type: object = None) -> bool:
        """Take an environment back from a mini program; False if it was not shared, or not as that source type."""
        share = self.shares.get((env, appid))
        if share is None or source_type not in (None, share.source_type):
            return False
        del self.shares[env, appid]
        return True

    def confirm(self, env: str, appid: str) -> None:
        """Let the administrator of a mini program agree to an offer. Nothing was offered: KeyError."""
        self.shares[env, appid] = evolve(self.shares[env, appid], confirmed=True)

    def confirmed_shares(self) -> Iterator[Share]:
        """Return the shares in effect, of environments that are still there."""
        return (share for share in self.shares.values() if share.confirmed and share.env in self._registry.environments)

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> Service:
        """Open a service in a NORMAL environment; a name that the environment has already is refused with 40097."""
        return self.cloudrun.establish(env, name, body)

    def listed_services(self, env: str) -> list[Service]:
        """Return what `getcslist` knows of an environment, oldest first; one that is not there is refused."""
        if self.status_of(env) is None:
            raise platform_error(-501005, f"env {env}")
        return [each for each in self.services.values() if each.env == env] if self.getcslist_includes_cloudrun else []

    def status_of(self, env: str) -> str | None:
        """Tell how an environment of cloud development or of cloud hosting stands; None if there is none."""
        row = self.environments.get(env)
        return self.cloudrun.environments.status_of(env) if row is None else row.status

    def new_request_id(self) -> str:
        """Make the request id that error messages end with."""
        digits = f"{self._random.getrandbits(92):023x}"
        return f"6{digits[:7]}-{digits[7:15]}-{digits[15:]}"

    def _require_normal(self, env: str) -> None:
        # -501005, not 40097: the cloud error list defines it as "unknown or not usable", and 40097
        # has to go on meaning "this name exists" for clients that repeat an ambiguous establish.
        status = self.status_of(env)
        if status is None:
            raise platform_error(-501005, f"env_id {env}")
        if status != NORMAL:
            raise platform_error(-501005, f"env_id {env} is {status}")

    def _new_id(self, alias: str) -> str:
        return f"{alias}-{self._random_string(16)}"

    def _random_string(self, length: int) -> str:
        return "".join(self._random.choices(_LOWER, k=length))

    def _format_now(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.unix_time() + _CHINA_UTC_OFFSET))
