"""The safety rules of provisioning, checked against what the platform and the journal saw themselves."""

from __future__ import annotations

import attrs

from wxtcb.provision import Outcome
from wxtcb.provision.desired import DesiredState
from wxtcb.provision.journal import JournalConflict

JUDGED_OUTCOMES = (Outcome.CONFLICT, Outcome.DUPLICATE, Outcome.UNKNOWN, Outcome.FAILED)
EPSILON = 1e-6
MAX_LISTING_AGE = 5.0
MAX_SLOW_LISTING_AGE = 30.0
# Seconds after which a process reads again what others have bound: if none is elected, and if it is elected.
MAX_BINDINGS_AGE = 5.0
MAX_ELECTED_BINDINGS_AGE = 60.0
MAX_CREATES = 3
# Seconds after a pause for which a process may still act as if it were elected.
THAW_SECONDS = 0.05
REQUIRED_COMPLETE_LISTINGS = 2


@attrs.define(eq=False)
class ObservedIntent:
    """An intent in the journal: when its commit was requested and stored, and the newest listing before it."""

    tenant: str
    alias: str
    requested_at: float
    stored_at: float
    listing: ObservedListing | None


@attrs.define(eq=False)
class ObservedCreate:
    """A request for an environment, and its outcome; from `over_at` on it cannot take effect any more.

    `rejected`: its sender was answered that it had no effect. `excused`: an operator's decision ended the ambiguity.
    `counts`: neither an environment nor a decision has come after it.
    """

    process: object
    alias: str
    tenant: str
    sent_at: float
    over_at: float
    env: str | None = None
    rejected: bool = False
    excused: bool = False
    counts: bool = True


@attrs.define(eq=False)
class ObservedListing:
    """A list that a process received. It began at `began_at` and contains the environments `envs`.

    `complete`: it lacks nothing that the process knew. `read`: the transport has returned it. `used`: the process has
    sent or committed something since then.
    """

    process: object
    began_at: float
    sent_at: float
    received_at: float
    envs: frozenset
    aliases: frozenset
    complete: bool
    read: bool = False
    used: bool = False


@attrs.define(eq=False)
class InvariantChecker:
    """Follows requests and commits, and records every broken rule in `violations`.

    `bound` maps each environment that the journal knows to its tenant and the time of binding. `owners` keeps the
    latest owner of an environment after it is unbound. `released` holds the environments that an operator's decision
    has unbound.
    """

    timeline: object
    world: object
    settle: float
    window: float
    violations: list = attrs.field(factory=list)
    creates: list = attrs.field(factory=list)
    listings: list = attrs.field(factory=list)
    intents: list = attrs.field(factory=list)
    records: dict = attrs.field(factory=dict)
    bound: dict = attrs.field(factory=dict)
    owners: dict = attrs.field(factory=dict)
    released: set = attrs.field(factory=set)
    histories: dict = attrs.field(factory=dict)
    current_epoch: object = lambda: None
    conflicts_are_false: bool = False

    def violation(self, rule, *details):
        self.violations.append(f"{self.timeline.now:.3f}: {rule} ({', '.join(map(str, details))})")

    def on_create_sent(self, process, alias):
        """Check a create at the moment when it is sent."""
        self._check_elected(process)
        intent = process.intents.get(alias.lower())
        if intent is None:
            self.violation("create without an intent", alias)
        elif self.timeline.now > intent.requested_at + self.window + EPSILON:
            self.violation("create after its deadline", alias)
        elif not (fresh := self._fresh_listings(process, intent)):
            self.violation("create without a fresh listing", alias)
        elif missing := min((self._missing(process, listing) for listing in fresh), key=len):
            self.violation("create after an incomplete listing", alias, *missing)
        for earlier in self.creates:
            if earlier.alias == alias.lower() and not (earlier.rejected or earlier.excused):
                self._require_proof(earlier)
        over_at = (intent.requested_at if intent else self.timeline.now) + self.window
        tenant = intent.tenant if intent else ""
        if (
            len([1 for each in self.creates if each.tenant == tenant and each.counts and not each.rejected])
            >= MAX_CREATES
        ):
            self.violation("more than three creates between two decisions", alias)
        create = ObservedCreate(process, alias.lower(), tenant, self.timeline.now, over_at)
        self.creates.append(create)
        return create

    def _fresh_listings(self, process, intent):
        """Return the recent listings without the alias that the process has received.

        A listing that took long may be up to twice as old as the time it took.
        """
        fresh = []
        for listing in self.listings:
            age, took = intent.requested_at - listing.began_at, listing.received_at - listing.began_at
            is_recent = 0 <= age <= max(MAX_LISTING_AGE, 2 * took) + EPSILON
            # A wait for a token is part of the time that it took, but perhaps that token was for another request.
            is_recent &= intent.requested_at - listing.sent_at <= MAX_SLOW_LISTING_AGE + EPSILON
            if listing.process is process and is_recent and intent.alias not in listing.aliases:
                fresh.append(listing)
        return fresh

    def _missing(self, process, listing):
        """Return what a listing lacks of the environments that were bound long enough before it.

        Those that the process knows: for longer than the propagation delay, from the moment when it read of them or,
        if that was later, when they were bound. Those of other processes: for that twice, because the process may read
        of one just before its first delay is over, and for as long as it may not read of any.
        """
        age = MAX_BINDINGS_AGE if process.epoch is None else MAX_ELECTED_BINDINGS_AGE
        settled = listing.sent_at - 2 * self.settle - age - EPSILON
        bound = {env for env, (_, at) in self.bound.items() if at <= settled}
        known = process.missing_from(listing.envs, listing.sent_at - EPSILON)
        return (bound - listing.envs) | (known & self.bound.keys())

    def _require_proof(self, earlier):
        """Require two complete listings of one process since an earlier create was over and visible."""
        since = earlier.over_at + self.settle - EPSILON
        usable = (each for each in self.listings if each.sent_at >= since and each.complete)
        proofs = [each.process for each in usable if earlier.alias not in each.aliases]
        if not any(proofs.count(process) >= REQUIRED_COMPLETE_LISTINGS for process in proofs):
            self.violation("create without proof that the one before had no effect", earlier.alias)

    def on_create_acted(self, create, env):
        """Check a create at the moment when it takes effect."""
        create.env = env
        same_alias = {env for env, row in self.world.environments.items() if row.alias.lower() == create.alias}
        twins = [each for each in self.creates if each.alias == create.alias and each.env in same_alias]
        if len(twins) > 1 and not any(each.excused for each in twins):
            self.violation("two environments created under one alias", *(each.env for each in twins))

    def on_create_answered(self, create, *, rejected):
        """Record that the sender received an answer to a create."""
        create.rejected = rejected
        create.over_at = self.timeline.now

    def on_listed(self, process, began_at, sent_at, rows):
        """Record that a process received a list."""
        envs = frozenset(row["env"] for row in rows)
        aliases = frozenset(row["alias"].lower() for row in rows)
        complete = not process.missing_from(envs, sent_at)
        self.listings.append(ObservedListing(process, began_at, sent_at, self.timeline.now, envs, aliases, complete))

    def confirm_listing_read(self, process):
        """Record that a process continues with an answer; return whether that is a new listing.

        The process may have been paused between the arrival and this moment. Only now has it received the list.
        """
        newest = self.newest_listing(process)
        if newest is None or newest.read:
            return False
        newest.received_at, newest.read = self.timeline.now, True
        return True

    def on_process_acts(self, process):
        """Record that a process sends or commits something, so that it has used its newest listing."""
        if (newest := self.newest_listing(process)) is not None:
            newest.used = True

    def on_thawed(self, process):
        """Record that a paused process continues.

        It measures how long a listing took some turns after the transport has returned it. A pause in between counts.
        """
        newest = self.newest_listing(process)
        if newest is not None and not newest.used:
            newest.received_at = self.timeline.now

    def newest_listing(self, process):
        return next((each for each in reversed(self.listings) if each.process is process), None)

    def _check_elected(self, process):
        """Check that only the elected process creates, if processes are elected.

        One that was paused past its lease needs some turns of its loop to notice that.
        """
        is_thawing = self.timeline.now <= process.thawed_at + THAW_SECONDS
        if process.is_candidate and not is_thawing and process.epoch != self.current_epoch():
            self.violation("create of a process that is not elected", process.epoch, self.current_epoch())

    def on_commit(self, process, epoch):
        """Check the epoch of a commit at the moment when it is stored."""
        if epoch is not None and epoch != self.current_epoch():
            self.violation("commit of a deposed process", epoch)

    def on_finish(self, process, row, finish):
        """Check the end of an attempt at the moment when it changes a desired tenant."""
        if process.taken.get(finish.tenant) != row.revision:
            self.violation("end of a revision that was not worked on", finish.tenant, row.revision)
        if row.state is DesiredState.DONE and finish.state is not DesiredState.DONE:
            self.violation("tenant that is done is set back", finish.tenant, finish.state)
        for tenants in process.decisions.values():
            tenants.pop(finish.tenant, None)

    def on_records_read(self, process, tenants, at):
        """Record that a process has read the records of tenants, as they were at that moment."""
        process.records_read_at |= dict.fromkeys(tenants, at)

    def on_reported(self, process, report):
        """Check that what a process reports of a tenant was true when it last looked."""
        error = report.problems[-1].error if report.problems else None
        is_judgement = error is None or isinstance(error, JournalConflict)
        if report.outcome not in JUDGED_OUTCOMES or report.env is not None or not is_judgement:
            return
        if self.conflicts_are_false and report.existing:
            self.violation("false report", report.tenant, report.outcome.value, report.reason)
        listing, record = self.newest_listing(process), self.records.get(report.tenant)
        looked_at = max(process.records_read_at.get(report.tenant, 0.0), listing.began_at if listing else 0.0)
        if record is not None and record.env is not None and self.bound[record.env][1] <= looked_at:
            self.violation("false report", report.tenant, report.outcome.value, report.reason or report.problems)

    def on_record_stored(self, process, after, requested_at):
        """Check a record at the moment when it is stored."""
        before = self.records.get(after.tenant)
        if after.version != (before.version if before else 0) + 1:
            self.violation("record over a newer one", after.tenant, after.version)
        self._follow_intent(process, before, after, requested_at)
        if before is not None and before.env not in (None, after.env):
            self._check_unbinding(process, before, after)
        if after.env is not None and (before is None or before.env != after.env):
            self._check_binding(process, after)
        self._count_creates_anew(process, before, after)
        self.records[after.tenant] = after

    def _count_creates_anew(self, process, before, after):
        """Count the creates of a tenant anew if it gets an environment, or by the decision of a person, once."""
        counted = after.creates_sent == 0 and before is not None and before.creates_sent > 0
        decided = counted and after.tenant in process.allowances
        if after.env is not None or decided:
            process.allowances -= {after.tenant} if decided else set()
            for create in self.creates:
                create.counts &= create.tenant != after.tenant

    def _follow_intent(self, process, before, after, requested_at):
        if after.attempt > (before.attempt if before else 0):
            listing = self.newest_listing(process)
            intent = ObservedIntent(after.tenant, after.alias.lower(), requested_at, self.timeline.now, listing)
            self.intents.append(intent)
            process.intents[intent.alias] = intent
        elif before and before.intent and not after.intent:
            process.intents.pop(before.alias.lower(), None)
            if after.tenant in process.decisions.get("adopt", ()):
                self._excuse(after.tenant)

    def _check_unbinding(self, process, before, after):
        decided = before.env in self._decided_envs(process, "forget") or before.env in self._decided_envs(
            process, "adopt"
        )
        if not decided and after.tenant not in process.decisions.get("adopt", ()):
            self.violation("environment forgotten", before.tenant, before.env)
        self.bound.pop(before.env)
        self.released.add(before.env)
        self._excuse(before.tenant)

    def _check_binding(self, process, after):
        env = after.env
        decided = process.decisions.get("adopt", {}).get(after.tenant) == env or env in self.released
        if env in self.bound or (self.owners.get(env, after.tenant) != after.tenant and not decided):
            self.violation("environment of another tenant", after.tenant, env, self.owners[env])
        if not decided and not self._was_created_for(after.tenant, env):
            self.violation("environment not known to be created for the tenant", after.tenant, env)
        self.bound[env] = (after.tenant, self.timeline.now)
        self.owners[env] = after.tenant

    def _was_created_for(self, tenant, env):
        """Return whether it appeared after an intent of the tenant, and was created for no other tenant."""
        makers = {each.tenant for each in self.creates if each.env == env}
        intents = (each for each in self.intents if each.tenant == tenant)
        return makers <= {tenant} and any(each.listing is None or env not in each.listing.envs for each in intents)

    def _excuse(self, tenant):
        for create in self.creates:
            create.excused |= create.tenant == tenant

    @staticmethod
    def _decided_envs(process, decision):
        return process.decisions.get(decision, {}).values()

    def check_histories(self, histories):
        """Check the history of each tenant: no entry may ever disappear."""
        for tenant, record in self.records.items():
            before, now = self.histories.get(tenant, ()), histories.get(tenant, ())
            if now[: len(before)] != before or len(now) != record.version:
                self.violation("history with a lost entry", tenant)
            self.histories[tenant] = now
