"""Handlers of the database calls: import and export, records, indexes, collections, access rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.database.values import encode_record
from wxtcb.sandbox.world import World

_ACL_TAGS: Final = ("READONLY", "PRIVATE", "ADMINWRITE", "ADMINONLY", "CUSTOM")
# "2dsphere" makes a geospatial index.
_DIRECTIONS: Final = ("1", "-1", "2dsphere")


def start_import(world: World, body: Body) -> bytes:
    """Start a job that imports a file of the environment's storage."""
    job_id = world.databases.start_import(
        body.string("env"),
        body.string("collection_name"),
        body.string("file_path"),
        file_type=_require_one_of(body, "file_type", (1, 2)),
        conflict_mode=_require_one_of(body, "conflict_mode", (1, 2)),
        stop_on_error=body.boolean("stop_on_error"),
    )
    return success(job_id=job_id)


def start_export(world: World, body: Body) -> bytes:
    """Start a job that exports a collection to a file."""
    file_type = _require_one_of(body, "file_type", (1, 2))
    job_id = world.databases.start_export(
        body.string("env"), body.string("file_path"), body.string("query"), file_type=file_type
    )
    return success(job_id=job_id)


def get_job_state(world: World, body: Body) -> bytes:
    """Return the state of a job; a failed job is reported with errcode 0."""
    state = world.databases.poll_job(body.string("env"), body.integer("job_id", 0))
    return success(
        status=state.status,
        record_success=state.succeeded,
        record_fail=state.failed,
        error_msg=state.message,
        file_url=state.url,
    )


def aggregate(world: World, body: Body) -> bytes:
    """Run an aggregation pipeline."""
    collection, statement = world.databases.open_statement(body.string("env"), body.string("query"), ["end"])
    # Records are strings of JSON in a reply, not objects.
    return success(data=[encode_record(record) for record in collection.aggregate(statement)])


def get_acl(world: World, body: Body) -> bytes:
    """Return the access rule of a collection; the sandbox does not apply it."""
    collection = world.databases.collection(body.string("env"), body.string("collection_name"))
    rule = {"rule": collection.rule} if collection.rule else {}
    return success(acl_tag=collection.acl_tag, **rule)


def modify_acl(world: World, body: Body) -> bytes:
    """Set the access rule of a collection; only CUSTOM has a rule expression."""
    collection = world.databases.collection(body.string("env"), body.string("collection_name"))
    tag, rule = body.string("acl_tag"), body.optional_string("rule") or ""
    if tag not in _ACL_TAGS:
        raise platform_error(40097, f"acl_tag {tag}")
    if tag == "CUSTOM" and not rule:
        raise platform_error(40097, "rule is empty")
    collection.acl_tag, collection.rule = tag, rule if tag == "CUSTOM" else ""
    return success()


def insert(world: World, body: Body) -> bytes:
    """Insert records."""
    collection, statement = world.databases.open_statement(body.string("env"), body.string("query"), ["add"])
    return success(id_list=collection.insert(statement))


def delete(world: World, body: Body) -> bytes:
    """Delete records."""
    collection, statement = world.databases.open_statement(body.string("env"), body.string("query"), ["remove"])
    return success(deleted=collection.remove(statement))


def update(world: World, body: Body) -> bytes:
    """Update records."""
    collection, statement = world.databases.open_statement(body.string("env"), body.string("query"), ["update", "set"])
    result = collection.update(statement)
    return success(matched=result.matched, modified=result.modified, id=result.created_id)


def query(world: World, body: Body) -> bytes:
    """Query a page of records."""
    collection, statement = world.databases.open_statement(body.string("env"), body.string("query"), ["get"])
    page = collection.query(statement)
    pager = {"offset": page.offset, "limit": page.limit, "total": page.total}
    return success(pager=pager, data=[encode_record(record) for record in page.records])


def create_indexes(world: World, body: Body) -> bytes:
    """Create indexes, all or none."""
    collection = world.databases.collection(body.string("env"), body.string("collection_name"))
    collection.add_indexes({index.string("name"): _index_keys(index) for index in body.objects("indexes")})
    return success()


def delete_indexes(world: World, body: Body) -> bytes:
    """Delete indexes, all or none."""
    collection = world.databases.collection(body.string("env"), body.string("collection_name"))
    collection.drop_indexes([index.string("name") for index in body.objects("indexes")])
    return success()


def get_collections(world: World, body: Body) -> bytes:
    """List a page of collections."""
    page = body.page()
    collections = world.databases.collections(body.string("env"))
    return success(collections=[collection.stats() for collection in collections[page]], total=len(collections))


def add_collection(world: World, body: Body) -> bytes:
    """Create an empty collection."""
    world.databases.add_collection(body.string("env"), body.string("collection_name"))
    return success()


def drop_collection(world: World, body: Body) -> bytes:
    """Delete a collection and all of its records."""
    world.databases.drop_collection(body.string("env"), body.string("collection_name"))
    return success()


Handler = Callable[[World, Body], bytes]


# One path has several actions; the validator has checked that the action is one of them.
def _by_action(handlers: dict[str, Handler]) -> Handler:
    return lambda world, body: handlers[body.string("action")](world, body)


def _require_one_of(body: Body, name: str, values: tuple[int, ...]) -> int:
    value = cast("int", body.fields[name])
    if value not in values:
        raise platform_error(40097, f"{name} {value}")
    return value


def _index_keys(index: Body) -> list[tuple[str, str]]:
    keys = [(key.string("name"), key.string("direction")) for key in index.objects("keys")]
    for _, direction in keys:
        if direction not in _DIRECTIONS:
            raise platform_error(40097, f"direction {direction}")
    return keys


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/dbimport": start_import,
    "/componenttcb/dbexport": start_export,
    "/componenttcb/dbmigrationstate": get_job_state,
    "/componenttcb/dbaggregate": aggregate,
    "/componenttcb/dbgetacl": get_acl,
    "/componenttcb/dbmodifyacl": modify_acl,
    "/componenttcb/dbrecord": _by_action({"insert": insert, "delete": delete, "update": update, "query": query}),
    "/componenttcb/dbindex": _by_action({"create": create_indexes, "delete": delete_indexes}),
    "/componenttcb/dbcollection": _by_action({"get": get_collections, "add": add_collection, "del": drop_collection}),
}
