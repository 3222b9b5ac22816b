"""The survey database: where it is, how it is opened, and how an older one is brought up to date.

SQLite in `surveys/` by default; PostgreSQL or another where `HERITAGE_DATABASE_URL` says so.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from filelock import FileLock
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from heritage.errors import DatabaseAwayError, StoreError

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "surveys.sqlite3"
SERVED = "database-on-a-server"  # an empty file: these photos belong to another database
LABELS = "labels*.csv"  # beside the photos: what verdicts say of them, each by its content
BUSY_S = 60  # how long one waits for another who writes
MIGRATION_LOCK = 0x4E41  # any number of ours: PostgreSQL's advisory lock while migrating
# What SQLite says that may pass: another writes, or the disk it lies on is away.
PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN)


def surveys_dir() -> Path:
    """The folder of kept photos and the database: `HERITAGE_SURVEYS`, else `surveys/` here."""
    return Path(os.environ.get("HERITAGE_SURVEYS") or ROOT / "surveys").resolve()


def connect(url: str | URL = "", folder: Path | None = None, *, migrate: bool = True) -> Engine:
    """Opens the database, making it on first use and bringing an older one up to date.

    Args:
        url: SQLAlchemy URL, or its parts; by default `HERITAGE_DATABASE_URL`, else SQLite in
            `folder`.
        folder: Where the SQLite file is; by default `surveys_dir()`.

    Raises:
        StoreError: It cannot be opened, or is newer than this program; or SQLite would begin in a
            folder whose photos belong to a database on a server, and would delete them.
    """
    url = url or os.environ.get("HERITAGE_DATABASE_URL") or ""
    folder = folder or surveys_dir()
    if not url and (folder / SERVED).exists() and not (folder / DATABASE).exists():
        raise StoreError(
            "surveys",
            "the photos here belong to a database on a server, and none is named",
            f"set HERITAGE_DATABASE_URL; if that database is gone for good, remove {SERVED}",
        )
    try:
        if not url:
            folder.mkdir(parents=True, exist_ok=True)
        # Made of parts, as a folder's name may hold signs that mean something in a URL.
        parsed = _with_driver(url) if url else URL.create("sqlite", database=str(folder / DATABASE))
        engine = create_engine(parsed, **_options(parsed))
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
        elif engine.dialect.name == "postgresql":
            event.listen(engine, "connect", _prepare_postgresql)
        try:
            if migrate:
                _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        if engine.dialect.name != "sqlite":
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / SERVED).touch()
        event.listen(engine, "handle_error", _in_words)
    except CommandError as error:
        raise StoreError(
            "surveys", "the database was made by a newer Heritage", "update this program"
        ) from error
    except (SQLAlchemyError, ImportError, OSError) as error:
        kind = DatabaseAwayError if _may_pass(getattr(error, "orig", None)) else StoreError
        raise kind(
            "surveys", f"the database cannot be opened ({_reason(error)})", _advice(error)
        ) from error
    return engine


def _with_driver(url: str | URL) -> URL:
    """The URL with the driver that is installed, where none is named."""
    parsed = make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_S}}
    return {"pool_pre_ping": True}


def _prepare_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    _write_ahead(cursor)
    # FULL, or in write-ahead mode a power cut would undo what was confirmed.
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(connection: Any, record: Any) -> None:
    """What a computer had locked when its power failed is free again in a minute, not in hours."""
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{BUSY_S}s'")
    cursor.close()
    connection.commit()


def _write_ahead(cursor: Any) -> None:
    """Switches a new database to write-ahead logging, for which SQLite itself does not wait."""
    end = time.monotonic() + BUSY_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            if cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                return  # in memory, or where it cannot be had
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.05)


def _in_words(context: Any) -> None:
    """Whatever befalls the database later on ends in an error that people can act on."""
    error, dbapi = context.original_exception, context.dialect.dbapi
    ours = (dbapi.IntegrityError, dbapi.ProgrammingError, dbapi.NotSupportedError)
    # A connection found dead before its use is replaced without a word.
    if context.is_pre_ping or not isinstance(error, dbapi.Error) or isinstance(error, ours):
        return
    if isinstance(error, dbapi.DataError):
        raise StoreError(
            "surveys",
            f"the database does not take this ({_reason(error)})",
            "leave out signs that are no text",
        ) from error
    kind = DatabaseAwayError if _may_pass(error) else StoreError
    raise kind(
        "surveys",
        f"the database does not answer ({_reason(error)})",
        "see that it is there and that its disk has room, then try again",
    ) from error


def _may_pass(error: BaseException | None) -> bool:
    """Whether what the database said may be otherwise in a minute."""
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in PASSING
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"OperationalError", "InterfaceError"})  # of any driver


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    return config


def _migrate(engine: Engine) -> None:
    head = _scripts().get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with _alone(engine), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        else:  # or a process killed in between would leave half of the tables
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _alone(engine: Engine) -> Any:
    """SQLite cannot lock a database for a migration without making it first."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return nullcontext()
    return FileLock(f"{engine.url.database}.lock", timeout=BUSY_S)


def _reason(error: Exception) -> str:
    if isinstance(error, ArgumentError | NoSuchModuleError):
        return "HERITAGE_DATABASE_URL is no URL of a database we know"
    told = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
    return str(told).strip().split("\n")[0][:200]


def _advice(error: Exception) -> str:
    if isinstance(error, OSError):
        return "check the folder named by HERITAGE_SURVEYS"
    return "check that it is there and that you may write to it"
