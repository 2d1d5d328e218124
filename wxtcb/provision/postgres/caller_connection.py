"""Statements on a connection of the caller: psycopg, asyncpg, and SQLAlchemy on either of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import attrs
import psycopg
from psycopg.rows import tuple_row

from wxtcb.errors import InvalidArgument
from wxtcb.provision.journal import JournalError
from wxtcb.provision.postgres.connection import UniqueConflict

__all__ = ["Statement"]


@attrs.frozen
class Statement:
    """Statement with its arguments, for any driver.

    `sql` has the placeholders $1, $2 and so on, each of them once and in this order; `pyformat` has %s instead. The
    arguments are lists of strings, bytes, numbers and booleans, for arrays of PostgreSQL.
    """

    sql: str
    arguments: tuple[Sequence[object], ...] = attrs.field(repr=False)

    @property
    def pyformat(self) -> str:
        sql = self.sql
        for number in range(len(self.arguments), 0, -1):
            sql = sql.replace(f"${number}", "%s")
        return sql


async def fetch_one(connection: Any, statement: Statement) -> Sequence[Any]:
    """Execute a statement in the transaction of *connection*, and return its only row.

    Raises `InvalidArgument` for an unknown type of connection, `UniqueConflict`, and `JournalError`.
    """
    execute = _find_driver(connection)
    try:
        row: Sequence[Any] = await execute(connection, statement)
    except Exception as error:
        failure = _describe(error)
    else:
        return row
    # Outside of `except`: SQLAlchemy and asyncpg quote the arguments of a statement, which hold secrets of services.
    raise failure


def _describe(error: Exception) -> JournalError:
    original = getattr(error, "orig", None) or error
    sqlstate = getattr(original, "sqlstate", None)
    failure = UniqueConflict if sqlstate == "23505" else JournalError
    kind = f"{type(original).__name__}, SQLSTATE {sqlstate}" if sqlstate else type(original).__name__
    return failure(
        f"the database rejected the statement ({kind}); nothing was submitted: roll back the transaction, and try again"
    )


def _find_driver(connection: object) -> Any:
    if isinstance(connection, psycopg.AsyncConnection):
        return _run_in_async_psycopg
    if isinstance(connection, psycopg.Connection):
        return _run_in_psycopg
    # Whose connection it is, has loaded its package.
    asyncpg, sqlalchemy = sys.modules.get("asyncpg"), sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncpg is not None and isinstance(connection, (asyncpg.Connection, asyncpg.pool.PoolConnectionProxy)):
        return _run_in_asyncpg
    if sqlalchemy is not None and isinstance(connection, sqlalchemy.AsyncSession):
        return _run_in_session
    if sqlalchemy is not None and isinstance(connection, sqlalchemy.AsyncConnection):
        _check_dialect(connection)
        return _run_in_sqlalchemy
    raise InvalidArgument(
        "connection must be a connection of psycopg or asyncpg, or an AsyncConnection or AsyncSession of SQLAlchemy on "
        f"one of them, not {type(connection).__name__}; for other drivers, execute `submission(...)` yourself"
    )


def _check_dialect(connection: Any) -> None:
    name = f"{connection.dialect.name}+{connection.dialect.driver}"
    if name not in ("postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg"):
        raise InvalidArgument(f"connection must use the SQLAlchemy driver psycopg or asyncpg on PostgreSQL, not {name}")


async def _run_in_async_psycopg(connection: psycopg.AsyncConnection[Any], statement: Statement) -> Any:
    # A cursor of its own: the connection may have another row factory, or a cursor with other placeholders.
    async with psycopg.AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(statement.sql.encode(), statement.arguments, prepare=False)
        return await cursor.fetchone()


async def _run_in_psycopg(connection: psycopg.Connection[Any], statement: Statement) -> Any:
    # It blocks, as everything does that its owner does with it.
    with psycopg.RawCursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(statement.sql.encode(), statement.arguments, prepare=False).fetchone()


async def _run_in_asyncpg(connection: Any, statement: Statement) -> Any:
    return await connection.fetchrow(statement.sql, *statement.arguments)


async def _run_in_session(session: Any, statement: Statement) -> Any:
    connection = await session.connection()
    _check_dialect(connection)
    return await _run_in_sqlalchemy(connection, statement)


async def _run_in_sqlalchemy(connection: Any, statement: Statement) -> Any:
    # Unchanged for the driver, which has placeholders of its own.
    sql = statement.sql if connection.dialect.driver == "asyncpg" else statement.pyformat
    return (await connection.exec_driver_sql(sql, statement.arguments)).one()
