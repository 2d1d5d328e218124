"""The state of the simulated platform, under a clock and a seed that are passed in; nothing here does I/O."""

from __future__ import annotations

import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Final

from attrs import Factory, define, evolve, field, frozen

from wxtcb.sandbox.console import Console
from wxtcb.sandbox.context import Ground
from wxtcb.sandbox.credentials import TokenDesk
from wxtcb.sandbox.environments import HALTED, NORMAL, UNAVAILABLE, Environment, Ready, Roster
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.limits import DAY, MINUTE, Resets, Window
from wxtcb.sandbox.request_ids import Rids
from wxtcb.sandbox.services.access_token import Access
from wxtcb.sandbox.services.cloudrun import CloudRun, Service
from wxtcb.sandbox.services.containers import Containers
from wxtcb.sandbox.services.database import Databases
from wxtcb.sandbox.services.functions import Functions
from wxtcb.sandbox.services.hosting import Hosting
from wxtcb.sandbox.services.storage import Storage

__all__ = ["Service", "Share", "World", "looks_like_appid"]

_APPID: Final = re.compile(r"wx[0-9a-z]{16}")
_LOWER: Final = string.ascii_lowercase + string.digits
_CHINA: Final = 8 * 3600
_MINTING: Final = "mint"


def looks_like_appid(appid: str) -> bool:
    """Say whether this has the shape of an appid; a world without a rule of its own authorises all that do."""
    return _APPID.fullmatch(appid) is not None


@frozen
class Share:
    """An environment offered to a mini program, which may use it once its administrator has `confirmed` at `url`."""

    env: str
    appid: str
    source_type: object
    url: str
    confirmed: bool = False


@define(eq=False, kw_only=True)
class World:
    """What the platform knows. Equal seed, equal calls: equal world, credentials and tokens included.

    `max_tokens`: tokens a clock day allows before 45009. `visible_after`: seconds until `describeenvs` shows a new
    environment. `minute_limit` and `daily_limit` map a path to the calls allowed in a clock minute (45011) or day
    (45009); minutes and days begin at multiples of 60 and 86,400 on `clock`. `epoch` is the Unix time of the moment
    the world is made. `operations_after` says when jobs, functions, versions and websites get ready, each look at them
    counted; `origin` is the sandbox's own URL. `lists_services` False: `getcslist` does not know what
    `establishcloudbaserunserver` opened, like a list of the older family alone. Settings may be changed while it runs;
    `ready_after` and `visible_after` hold for later creates.
    """

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    seed: int = 0
    epoch: float = field(factory=time.time)
    token_life: int = 7200
    max_tokens: int | None = None
    ready_after: Ready = Factory(Ready.at_once)
    visible_after: float = 0.0
    operations_after: Ready = Factory(Ready.at_once)
    origin: str = "http://127.0.0.1"
    authorised: Callable[[str], bool] = field(default=looks_like_appid, repr=False)
    minute_limit: Mapping[str, int] = Factory(dict[str, int])
    daily_limit: Mapping[str, int] = Factory(dict[str, int])
    lists_services: bool = True
    shares: dict[tuple[str, str], Share] = field(init=False, repr=False, factory=dict[tuple[str, str], Share])
    storage: Storage = field(init=False, repr=False)
    databases: Databases = field(init=False, repr=False)
    hosting: Hosting = field(init=False, repr=False)
    functions: Functions = field(init=False, repr=False)
    access: Access = field(init=False, repr=False)
    cloudrun: CloudRun = field(init=False, repr=False)
    containers: Containers = field(init=False, repr=False)
    tokens: TokenDesk = field(init=False, repr=False)
    console: Console = field(init=False, repr=False)
    ticket: str = field(init=False, repr=False)
    rids: Rids = field(init=False, repr=False, factory=Rids)
    resets: Resets = field(init=False, repr=False, factory=Resets)
    _roster: Roster = field(init=False, repr=False, factory=Roster)
    _random: Random = field(init=False, repr=False)
    _minutes: Window = field(init=False, repr=False, factory=lambda: Window(MINUTE, 45011))
    _days: Window = field(init=False, repr=False, factory=lambda: Window(DAY, 45009))
    _began: float = field(init=False, repr=False)
    _orders: int = field(init=False, repr=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._began = self.clock()
        self._random = Random(f"world {self.seed}")
        self.tokens = TokenDesk(Random(f"tokens {self.seed}"))
        self.console = Console(Random(f"console {self.seed}"))
        self.ticket = self.tokens.issue_ticket(self._began)
        ground = Ground(
            clock=self.clock,
            random=Random(f"cloud {self.seed}"),
            stamp=self._stamp,
            need_normal=self._need_normal,
            after=lambda: self.operations_after,
            origin=lambda: self.origin,
        )
        self.storage = Storage(ground)
        self.databases = Databases(ground, self.storage)
        self.hosting = Hosting(ground, self.storage.objects)
        self.functions = Functions(ground)
        self.access = Access(ground)
        self.cloudrun = CloudRun(ground, lambda: self.ready_after)
        self.containers = Containers(ground)

    @property
    def environments(self) -> Mapping[str, Environment]:
        """Every environment by id, oldest first, statuses as of now, those not yet visible included."""
        self._roster.ripen(self.clock(), self._stamp())
        return self._roster.rows

    @property
    def services(self) -> dict[tuple[str, str], Service]:
        """The cloud-run services by environment and name, oldest first."""
        return self.cloudrun.services

    @property
    def mints(self) -> int:
        """How many component tokens were handed out."""
        return self.tokens.mints

    @property
    def kills(self) -> int:
        """How many living component tokens were ended before their time."""
        return self.tokens.kills

    def kill_token(self) -> bool:
        """End the living component token; False, and nothing counted, if none lives."""
        return self.tokens.kill(self.clock())

    def new_ticket(self) -> str:
        """Issue a newer ticket; the older one stays good for its twelve hours."""
        self.ticket = self.tokens.issue_ticket(self.clock())
        return self.ticket

    @property
    def ticket_age(self) -> float:
        """The seconds since the newest ticket was issued."""
        return self.clock() - self.tokens.issued_at(self.ticket)

    def unix_time(self) -> float:
        """Tell the time of day of the simulated platform, in Unix seconds."""
        return self.epoch + self.clock() - self._began

    def admit(self, path: str) -> None:
        """Count a call against the limits of its path, or refuse it with 45011 or 45009."""
        now = self.clock()
        self._minutes.admit(path, self.minute_limit, now)
        self._days.admit(path, self.daily_limit, now)

    def used_today(self, path: str) -> int:
        """Return how many calls of a path the clock day has had."""
        return self._days.count(path, self.clock())

    def clear_today(self, *paths: str) -> None:
        """Count the calls of the day from 0 again, on these paths, or on all if none is named."""
        self._days.clear(*paths)

    def month(self) -> str:
        """Return the month on the platform's calendar."""
        return self._stamp()[:7]

    def mint(self) -> str:
        """Hand out a component token, which voids the one before."""
        now = self.clock()
        if self.max_tokens is not None:
            self._days.admit(_MINTING, {_MINTING: self.max_tokens}, now)
        return self.tokens.mint(now, self.token_life)

    def create(self, alias: str, env_type: str | None = None) -> tuple[str, str]:
        """Open another environment, whatever others of this alias there are; the order number and its id come back."""
        self._orders += 1
        stamp = self._stamp()
        row = Environment(self._new_id(alias), alias, UNAVAILABLE, stamp, stamp, env_type)
        self._roster.open(row, visible_at=self.clock() + self.visible_after, ready=self.ready_after)
        return f"{stamp[:10].replace('-', '')}{self._orders:06d}", row.env

    def add(self, alias: str, *, env: str | None = None, status: str = NORMAL) -> str:
        """Set the scene: an environment that is there and visible already; one that is UNAVAILABLE stays so."""
        stamp = self._stamp()
        row = Environment(env or self._new_id(alias), alias, status, stamp, stamp)
        self._roster.put(row)
        return row.env

    def halt(self, env: str) -> None:
        """Stop an environment as the platform does over quota: HALTED for good. Unknown id: KeyError."""
        self._roster.set_status(env, HALTED, self._stamp())

    def remove(self, env: str) -> None:
        """Take an environment away as if its owner had deleted it elsewhere. Unknown id: KeyError."""
        self._roster.remove(env)

    def look(self) -> bytes:
        """Count a `describeenvs` look and return the environments it shows as a JSON array."""
        return self._roster.look(self.clock(), self._stamp())

    def share(self, env: str, appid: str, source_type: object) -> Share:
        """Offer an environment to a mini program; each offer, a repeated one too, gets a link of its own.

        What was confirmed stays so.
        """
        known = self.shares.get((env, appid))
        url = f"https://mp.weixin.qq.com/wxa/sandbox/confirm?ticket={self._letters(24)}"
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

    def confirmed(self) -> Iterator[Share]:
        """Return the shares in effect, of environments that are still there."""
        return (share for share in self.shares.values() if share.confirmed and share.env in self._roster.rows)

    def establish(self, env: str, name: str, body: Mapping[str, object]) -> Service:
        """Open a service in a NORMAL environment; a name that the environment has already is refused with 40097."""
        return self.cloudrun.establish(env, name, body)

    def services_of(self, env: str) -> list[Service]:
        """Return what `getcslist` knows of an environment, oldest first; one that is not there is refused."""
        if self.status_of(env) is None:
            raise refuse(-501005, f"env {env}")
        return [each for each in self.services.values() if each.env == env] if self.lists_services else []

    def status_of(self, env: str) -> str | None:
        """Tell how an environment of cloud development or of cloud hosting stands; None if there is none."""
        row = self.environments.get(env)
        return self.cloudrun.environments.status_of(env) if row is None else row.status

    def rid(self) -> str:
        """Make the request id that error messages end with."""
        digits = f"{self._random.getrandbits(92):023x}"
        return f"6{digits[:7]}-{digits[7:15]}-{digits[15:]}"

    def _need_normal(self, env: str) -> None:
        # -501005, not 40097: the cloud error list defines it as "unknown or not usable", and 40097
        # has to go on meaning "this name exists" for clients that repeat an ambiguous establish.
        status = self.status_of(env)
        if status is None:
            raise refuse(-501005, f"env_id {env}")
        if status != NORMAL:
            raise refuse(-501005, f"env_id {env} is {status}")

    def _new_id(self, alias: str) -> str:
        return f"{alias}-{self._letters(16)}"

    def _letters(self, length: int) -> str:
        return "".join(self._random.choices(_LOWER, k=length))

    def _stamp(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.unix_time() + _CHINA))
