"""What no history of provisioning may hold, judged by what the platform and the journal themselves saw."""

from __future__ import annotations

import attrs

EPSILON = 1e-6
FRESH = 5.0
SOUND_LOOKS = 2


@attrs.define(eq=False)
class Intent:
    """A create that a process has put on record: asked to be kept, kept, and which look it stands on."""

    tenant: str
    alias: str
    asked_at: float
    kept_at: float
    look: Seen | None


@attrs.define(eq=False)
class Create:
    """A request for an environment, and what came of it; it is `over` when it can act no more.

    `refused` once its sender was told that it did not act. `excused` where a person's word has ended the doubt.
    """

    host: object
    alias: str
    tenant: str
    sent_at: float
    over: float
    env: str | None = None
    refused: bool = False
    excused: bool = False


@attrs.define(eq=False)
class Seen:
    """A list that a process was given: asked for since `began`, it shows `shown`; `sound` if nothing known lacks."""

    host: object
    began: float
    sent_at: float
    told_at: float
    shown: frozenset
    aliases: frozenset
    sound: bool
    noted: bool = False


@attrs.define(eq=False)
class Witness:
    """Follows what is sent and kept, and notes in `wrongs` what must not be.

    `bound` has every environment that the journal knows, with its tenant and the moment; `owners` whose it ever was;
    `released` are those that a person has taken from their tenants.
    """

    line: object
    world: object
    settle: float
    window: float
    wrongs: list = attrs.field(factory=list)
    creates: list = attrs.field(factory=list)
    seen: list = attrs.field(factory=list)
    intents: list = attrs.field(factory=list)
    records: dict = attrs.field(factory=dict)
    bound: dict = attrs.field(factory=dict)
    owners: dict = attrs.field(factory=dict)
    released: set = attrs.field(factory=set)
    histories: dict = attrs.field(factory=dict)

    def wrong(self, what, *about):
        self.wrongs.append(f"{self.line.now:.3f}: {what} ({', '.join(map(str, about))})")

    def send_create(self, host, alias):
        """Judge a create that leaves now."""
        intent = host.intents.get(alias.lower())
        if intent is None:
            self.wrong("a create without an intent", alias)
        elif self.line.now > intent.asked_at + self.window + EPSILON:
            self.wrong("a create after its deadline", alias)
        elif not self._is_fresh(host, intent):
            self.wrong("a create without a fresh look", alias)
        for earlier in self.creates:
            if earlier.alias == alias.lower() and not (earlier.refused or earlier.excused):
                self._need_proof(earlier)
        over = (intent.asked_at if intent else self.line.now) + self.window
        create = Create(host, alias.lower(), intent.tenant if intent else "", self.line.now, over)
        self.creates.append(create)
        return create

    def _is_fresh(self, host, intent):
        """Tell whether some look of the process was recent, for as long as it took, and did not show the alias."""
        for look in self.seen:
            age, took = intent.asked_at - look.began, look.told_at - look.began
            if look.host is host and 0 <= age <= max(FRESH, 2 * took) + EPSILON and intent.alias not in look.aliases:
                return True
        return False

    def _need_proof(self, earlier):
        """Demand two sound looks by one process since an earlier create could act no more, and was visible."""
        since = earlier.over + self.settle - EPSILON
        looks = [each for each in self.seen if each.sent_at >= since and each.sound]
        proven = [each.host for each in looks if earlier.alias not in each.aliases]
        if not any(proven.count(host) >= SOUND_LOOKS for host in proven):
            self.wrong("a create without proof that the one before did not act", earlier.alias)

    def act(self, create, env):
        """Judge a create that acts now."""
        create.env = env
        listed = self.world.environments
        alike = {env for env, row in listed.items() if row.alias.lower() == create.alias}
        twins = [each for each in self.creates if each.alias == create.alias and each.env in alike]
        if len(twins) > 1 and not any(each.excused for each in twins):
            self.wrong("two environments of ours under one alias", *(each.env for each in twins))

    def tell_create(self, create, *, refused, clear):
        """Note that the sender was told what became of a create."""
        create.refused = refused
        if clear:
            create.over = self.line.now

    def tell_list(self, host, began, sent_at, rows):
        """Note that a process was given a list."""
        shown = frozenset(row["env"] for row in rows)
        aliases = frozenset(row["alias"].lower() for row in rows)
        sound = not host.lacks(shown, sent_at)
        self.seen.append(Seen(host, began, sent_at, self.line.now, shown, aliases, sound))

    def take_note(self, host):
        """Note that a process goes on with an answer, having been paused perhaps; tell whether it is a new list."""
        newest = self.newest(host)
        if newest is None or newest.noted:
            return False
        newest.told_at, newest.noted = self.line.now, True
        return True

    def newest(self, host):
        return next((seen for seen in reversed(self.seen) if seen.host is host), None)

    def keep(self, host, after, asked_at):
        """Judge a record that is kept now."""
        before = self.records.get(after.tenant)
        if after.version != (before.version if before else 0) + 1:
            self.wrong("a record over a newer one", after.tenant, after.version)
        self._follow_intent(host, before, after, asked_at)
        if before is not None and before.env not in (None, after.env):
            self._judge_loss(host, before, after)
        if after.env is not None and (before is None or before.env != after.env):
            self._judge_binding(host, after)
        self.records[after.tenant] = after

    def _follow_intent(self, host, before, after, asked_at):
        if after.attempt > (before.attempt if before else 0):
            look = self.newest(host)
            intent = Intent(after.tenant, after.alias.lower(), asked_at, self.line.now, look)
            self.intents.append(intent)
            host.intents[intent.alias] = intent
        elif before and before.intent and not after.intent:
            host.intents.pop(before.alias.lower(), None)
            if after.tenant in host.decisions.get("adopt", ()):
                self._excuse(after.tenant)

    def _judge_loss(self, host, before, after):
        decided = before.env in self._decided(host, "forget") or before.env in self._decided(host, "adopt")
        if not decided and after.tenant not in host.decisions.get("adopt", ()):
            self.wrong("an environment forgotten", before.tenant, before.env)
        self.bound.pop(before.env)
        self.released.add(before.env)
        self._excuse(before.tenant)

    def _judge_binding(self, host, after):
        env = after.env
        by_word = host.decisions.get("adopt", {}).get(after.tenant) == env or env in self.released
        if env in self.bound or (self.owners.get(env, after.tenant) != after.tenant and not by_word):
            self.wrong("an environment of another", after.tenant, env, self.owners[env])
        if not by_word and not self._is_ours(after.tenant, env):
            self.wrong("an environment that is not known to be ours", after.tenant, env)
        self.bound[env] = (after.tenant, self.line.now)
        self.owners[env] = after.tenant

    def _is_ours(self, tenant, env):
        """Tell whether it came under an intent of the tenant, and not under a create of anybody else."""
        makers = {each.tenant for each in self.creates if each.env == env}
        intended = (each for each in self.intents if each.tenant == tenant)
        return makers <= {tenant} and any(each.look is None or env not in each.look.shown for each in intended)

    def _excuse(self, tenant):
        for create in self.creates:
            create.excused |= create.tenant == tenant

    @staticmethod
    def _decided(host, what):
        return host.decisions.get(what, {}).values()

    def follow_histories(self, told):
        """Judge what the journal tells of each tenant now: nothing of it may ever go."""
        for tenant, record in self.records.items():
            before, now = self.histories.get(tenant, ()), told.get(tenant, ())
            if now[: len(before)] != before or len(now) != record.version:
                self.wrong("a history that lost something", tenant)
            self.histories[tenant] = now
