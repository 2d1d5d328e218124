"""Collections: list, create, delete; their indexes and access rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs
import orjson

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb.api._pagination import by_offset
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    check_not_empty,
    check_strings,
    to_str_tuple,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

AclTag: TypeAlias = Literal["READONLY", "PRIVATE", "ADMINWRITE", "ADMINONLY", "CUSTOM"]
Direction: TypeAlias = Literal["1", "-1", "2dsphere"]


# The platform takes strings even for 1 and -1.
def _as_direction(value: Direction | Literal[1, -1]) -> Direction:
    return "1" if value == 1 else "-1" if value == -1 else value


def _check_direction(name: str, value: object) -> None:
    if value not in get_args(Direction):
        raise InvalidArgument(f"{name} must be '1', '-1' or '2dsphere', not {value!r}")


@attrs.frozen
class IndexKey:
    """A field of an index: ascending ("1"), descending ("-1") or geographical ("2dsphere")."""

    name: str
    direction: Direction = attrs.field(
        default="1", converter=_as_direction, validator=validator(_check_direction), kw_only=True
    )


def _as_keys(value: Iterable[IndexKey]) -> tuple[IndexKey, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class Index:
    """An index of a collection and its fields."""

    name: str
    keys: tuple[IndexKey, ...] = attrs.field(converter=_as_keys, validator=validator(check_not_empty))


@attrs.frozen(kw_only=True)
class CollectionInfo:
    """A collection: its number of records (`count`) and of indexes, and their sizes in bytes."""

    name: str
    count: int = 0
    size: int = 0
    index_count: int = 0
    index_size: int = 0


@attrs.frozen(kw_only=True)
class Collections(Reply):
    """A page of the collections of an environment; `total` is the number of collections on all pages."""

    collections: tuple[CollectionInfo, ...] = ()
    total: int | None = None


@attrs.frozen(kw_only=True)
class Acl(Reply):
    """Access rule of a collection.

    `acl_tag` is READONLY (everyone reads, the creator writes), PRIVATE (only the creator), ADMINWRITE (everyone reads,
    administrators write), ADMINONLY, or CUSTOM, which applies `rule`, a JSON document in a string.
    """

    acl_tag: str
    rule: str | None = None


_INDEX_PATH: Final = "/componenttcb/dbindex"
_COLLECTION_PATH: Final = "/componenttcb/dbcollection"

DB_GET_ACL: Final = Endpoint("/componenttcb/dbgetacl", Acl, Repeat.READ, name="db_get_acl", official="getPermission")
DB_MODIFY_ACL: Final = Endpoint(
    "/componenttcb/dbmodifyacl", Done, Repeat.SET, name="db_modify_acl", official="setPermission"
)
# The creates are ONCE: the platform rejects a second one, which would look like a failure of the first.
DB_INDEX_CREATE: Final = Endpoint(
    _INDEX_PATH, Done, Repeat.ONCE, name="db_index_create", official="dbindexManage", action="create"
)
DB_INDEX_DELETE: Final = Endpoint(
    _INDEX_PATH, Done, Repeat.SET, name="db_index_delete", official="dbindexManage", action="delete"
)
DB_COLLECTION_GET: Final = Endpoint(
    _COLLECTION_PATH, Collections, Repeat.READ, name="db_collection_get", official="dbcollectionManage", action="get"
)
DB_COLLECTION_ADD: Final = Endpoint(
    _COLLECTION_PATH, Done, Repeat.ONCE, name="db_collection_add", official="dbcollectionManage", action="add"
)
DB_COLLECTION_DEL: Final = Endpoint(
    _COLLECTION_PATH, Done, Repeat.SET, name="db_collection_del", official="dbcollectionManage", action="del"
)

ENDPOINTS: Final = (
    DB_GET_ACL,
    DB_MODIFY_ACL,
    DB_INDEX_CREATE,
    DB_INDEX_DELETE,
    DB_COLLECTION_GET,
    DB_COLLECTION_ADD,
    DB_COLLECTION_DEL,
)


async def db_get_acl(session: Session, env: str, collection_name: str) -> Acl:
    """Return the access rule of a collection.

    Official interface: getPermission, page cloudbase-batch/db-mgnt/getPermission.
    """
    return await session.call(DB_GET_ACL, _collection_body(env, collection_name))


async def db_modify_acl(
    session: Session, env: str, collection_name: str, acl_tag: AclTag, rule: str | None = ""
) -> Done:
    """Set the access rule of a collection (see `Acl`).

    CUSTOM requires a *rule*, a JSON object in a string. With other tags an empty rule is sent, or none if *rule* is
    None.

    Raises `InvalidArgument` for an unknown tag or an invalid rule, before a request is sent.

    Official interface: setPermission, page cloudbase-batch/db-mgnt/setPermission.
    """
    body = _collection_body(env, collection_name)
    # A wrong tag could open a collection to everyone, so the closed set is checked before a request is sent.
    if acl_tag not in get_args(AclTag):
        raise InvalidArgument(f"acl_tag must be one of {', '.join(get_args(AclTag))}, not {acl_tag!r}")
    # The platform's table requires the field for every tag, its non-batch twin only for CUSTOM.
    if acl_tag == "CUSTOM":
        _check_rule(rule)
    return await session.call(DB_MODIFY_ACL, {**body, "acl_tag": acl_tag, "rule": rule})


async def db_index_create(session: Session, env: str, collection_name: str, indexes: Iterable[Index]) -> Done:
    """Create indexes of a collection; unique indexes are not available.

    Raises `OutcomeUnknown` if the reply was lost: no call lists indexes, but `db_collection_get` counts them.

    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    new_indexes = tuple(indexes)
    check_not_empty("indexes", new_indexes)
    return await session.call(DB_INDEX_CREATE, {**body, "indexes": new_indexes})


async def db_index_delete(session: Session, env: str, collection_name: str, names: Iterable[str]) -> Done:
    """Delete indexes of a collection by their names.

    The call is repeated automatically after a lost reply; an error that an index does not exist may then be caused by
    the first attempt.

    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    index_names = to_str_tuple(names)
    check_strings("names", index_names)
    check_not_empty("names", index_names)
    return await session.call(DB_INDEX_DELETE, {**body, "indexes": [{"name": name} for name in index_names]})


async def db_collection_get(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> Collections:
    """Return a page of the collections: *limit* of them (default 20), from *offset* (default 0) on.

    `iter_collections` iterates over all pages.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_GET, {"env": env, "limit": limit, "offset": offset})


async def db_collection_add(session: Session, env: str, collection_name: str) -> Done:
    """Create an empty collection; an existing name is rejected.

    Raises `OutcomeUnknown` if the reply was lost: check with `db_collection_get`, or retry.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_ADD, _collection_body(env, collection_name))


async def db_collection_del(session: Session, env: str, collection_name: str) -> Done:
    """Delete a collection and all its records; this cannot be undone.

    The call is repeated automatically after a lost reply; an error that the collection does not exist may then be
    caused by the first attempt.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_DEL, _collection_body(env, collection_name))


def iter_collections(session: Session, env: str) -> AsyncIterator[CollectionInfo]:
    """Iterate over all collections of an environment, 20 per call."""

    async def fetch(offset: int) -> tuple[tuple[CollectionInfo, ...], int | None]:
        page = await db_collection_get(session, env, limit=20, offset=offset)
        return page.collections, page.total

    return by_offset(DB_COLLECTION_GET, fetch)


def _collection_body(env: str, collection_name: str) -> dict[str, object]:
    return {"env": env, "collection_name": collection_name}


def _check_rule(rule: str | None) -> None:
    try:
        document = orjson.loads(rule or "")
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"rule is not JSON: {error}; CUSTOM needs a JSON object in a string") from error
    if not isinstance(document, dict):
        raise InvalidArgument("rule is not a JSON object: CUSTOM needs a JSON object in a string")
