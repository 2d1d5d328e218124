"""Collections, their indexes, and who may read and write them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs
import orjson

from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb.api._pagination import by_offset
from wxtcb.errors import InvalidArgument
from wxtcb.validation import (
    check_list_of,
    check_not_empty,
    check_string,
    check_strings,
    check_type,
    check_type_or_none,
    to_str_tuple,
    to_tuple,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

AclTag: TypeAlias = Literal["READONLY", "PRIVATE", "ADMINWRITE", "ADMINONLY", "CUSTOM"]
Direction: TypeAlias = Literal["1", "-1", "2dsphere"]


def _as_direction(value: Direction | Literal[1, -1]) -> Direction:
    """Write a number as the text that the platform takes."""
    return "1" if value == 1 else "-1" if value == -1 else value


def _check_direction(name: str, value: object) -> None:
    if value not in get_args(Direction):
        raise InvalidArgument(f"{name} must be '1', '-1' or '2dsphere', not {value!r}")


@attrs.frozen
class IndexKey:
    """A field of an index: ascending ("1"), descending ("-1") or of places ("2dsphere")."""

    name: str = attrs.field(validator=validator(check_string))
    direction: Direction = attrs.field(
        default="1", converter=_as_direction, validator=validator(_check_direction), kw_only=True
    )


def _as_keys(value: Iterable[IndexKey]) -> tuple[IndexKey, ...]:
    return to_tuple(value)


def _check_keys(name: str, value: object) -> None:
    check_list_of(name, value, IndexKey)
    check_not_empty(name, value)


@attrs.frozen(kw_only=True)
class Index:
    """An index of a collection and the fields it sorts by."""

    name: str = attrs.field(validator=validator(check_string))
    keys: tuple[IndexKey, ...] = attrs.field(converter=_as_keys, validator=validator(_check_keys))


@attrs.frozen(kw_only=True)
class CollectionInfo:
    """A collection: its records (`count`) and indexes, and how many bytes each take."""

    name: str
    count: int = 0
    size: int = 0
    index_count: int = 0
    index_size: int = 0


@attrs.frozen(kw_only=True)
class Collections(Reply):
    """A page of the collections of an environment; `total` counts those of all pages."""

    collections: tuple[CollectionInfo, ...] = ()
    total: int | None = None


@attrs.frozen(kw_only=True)
class Acl(Reply):
    """Who may read and write a collection.

    `acl_tag` is READONLY (all read, the creator writes), PRIVATE (the creator alone), ADMINWRITE (all read,
    administrators write), ADMINONLY, or CUSTOM, which goes by `rule`, a JSON document in a text.
    """

    acl_tag: str
    rule: str | None = None


_INDEX_PATH: Final = "/componenttcb/dbindex"
_COLLECTION_PATH: Final = "/componenttcb/dbcollection"

DB_GET_ACL: Final = Endpoint("/componenttcb/dbgetacl", Acl, Repeat.READ, name="db_get_acl", official="getPermission")
DB_MODIFY_ACL: Final = Endpoint(
    "/componenttcb/dbmodifyacl", Done, Repeat.SET, name="db_modify_acl", official="setPermission"
)
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
    """Tell who may read and write a collection.

    Official interface: getPermission, page cloudbase-batch/db-mgnt/getPermission.
    """
    return await session.call(DB_GET_ACL, _collection_body(env, collection_name))


async def db_modify_acl(
    session: Session, env: str, collection_name: str, acl_tag: AclTag, rule: str | None = ""
) -> Done:
    """Set who may read and write a collection (see `Acl`); it holds from now on.

    CUSTOM needs a *rule*, a JSON object in a text. The platform's table requires the field for every tag, the twin of
    the call for CUSTOM alone: it is sent empty with the others, and left out if it is None.

    Official interface: setPermission, page cloudbase-batch/db-mgnt/setPermission.
    """
    body = _collection_body(env, collection_name)
    if acl_tag not in get_args(AclTag):
        raise InvalidArgument(f"acl_tag must be one of {', '.join(get_args(AclTag))}, not {acl_tag!r}")
    if acl_tag == "CUSTOM":
        _check_rule(rule)
    elif rule is not None:
        check_type("rule", rule, str)
    return await session.call(DB_MODIFY_ACL, {**body, "acl_tag": acl_tag, "rule": rule})


async def db_index_create(session: Session, env: str, collection_name: str, indexes: Iterable[Index]) -> Done:
    """Create indexes of a collection; none is unique.

    Raises `OutcomeUnknown` when the answer was lost: no call lists indexes, but `db_collection_get` counts them.

    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    wanted = to_tuple(indexes)
    check_list_of("indexes", wanted, Index)
    check_not_empty("indexes", wanted)
    return await session.call(DB_INDEX_CREATE, {**body, "indexes": wanted})


async def db_index_delete(session: Session, env: str, collection_name: str, names: Iterable[str]) -> Done:
    """Remove indexes of a collection, by their names.

    It is repeated by itself after a lost answer; then the error that one is not there may come of the first attempt.

    Official interface: dbindexManage, page cloudbase-batch/db-mgnt/dbindexManage.
    """
    body = _collection_body(env, collection_name)
    wanted = to_str_tuple(names)
    check_strings("names", wanted)
    check_not_empty("names", wanted)
    return await session.call(DB_INDEX_DELETE, {**body, "indexes": [{"name": name} for name in wanted]})


async def db_collection_get(
    session: Session, env: str, *, limit: int | None = None, offset: int | None = None
) -> Collections:
    """List a page of the collections: *limit* of them (20 if None), from number *offset* (0) on.

    `iter_collections` lists them all.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    check_string("env", env)
    check_type_or_none("limit", limit, int)
    check_type_or_none("offset", offset, int)
    return await session.call(DB_COLLECTION_GET, {"env": env, "limit": limit, "offset": offset})


async def db_collection_add(session: Session, env: str, collection_name: str) -> Done:
    """Create an empty collection; one that is there already is refused.

    Raises `OutcomeUnknown` when the answer was lost: look with `db_collection_get`, or just add it again.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_ADD, _collection_body(env, collection_name))


async def db_collection_del(session: Session, env: str, collection_name: str) -> Done:
    """Remove a collection and all of its records; there is no way back.

    It is repeated by itself after a lost answer; then the error that it is not there may come of the first attempt.

    Official interface: dbcollectionManage, page cloudbase-common/db-management/dbcollectionManage.
    """
    return await session.call(DB_COLLECTION_DEL, _collection_body(env, collection_name))


def iter_collections(session: Session, env: str) -> AsyncIterator[CollectionInfo]:
    """Yield all collections of an environment, 20 per call."""
    check_string("env", env)

    async def fetch(offset: int) -> tuple[tuple[CollectionInfo, ...], int | None]:
        page = await db_collection_get(session, env, limit=20, offset=offset)
        return page.collections, page.total

    return by_offset(DB_COLLECTION_GET, fetch)


def _collection_body(env: str, collection_name: str) -> dict[str, object]:
    check_string("env", env)
    check_string("collection_name", collection_name)
    return {"env": env, "collection_name": collection_name}


def _check_rule(rule: str | None) -> None:
    try:
        found = orjson.loads(rule or "")
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise InvalidArgument("rule must be a JSON object in a text, which CUSTOM goes by")
