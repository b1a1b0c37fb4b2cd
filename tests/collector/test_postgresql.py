"""A PostgreSQL database: what goes wrong with it loses no acknowledged trigger, and no password is shown."""

from __future__ import annotations

import logging
import string
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from brockman.collector.errors import InvalidSetting, StoreUnavailable
from brockman.collector.store import open_store
from brockman.collector.store.location import is_ambiguous, without_password
from brockman.collector.store.postgresql import PostgresqlStore
from brockman.collector.store.postgresql_schema import PRUNE_LOCK
from brockman.collector.store.values import Added, Query
from tests.collector.running import make_row
from tests.support.postgresql import PASSWORD, QUOTED_PASSWORD, Postgresql
from tests.support.waiting import eventually


@pytest.fixture
def url(postgresql: Postgresql) -> str:
    return postgresql.empty_database()


@pytest.fixture
def store(url: str) -> Iterator[PostgresqlStore]:
    with closing(PostgresqlStore(url, busy_timeout=0.2)) as opened:
        yield opened


@pytest.fixture(scope="module")
def role(postgresql: Postgresql) -> str:
    """The name of a user who logs in with the password."""
    postgresql.execute(f"CREATE ROLE reporter LOGIN PASSWORD '{PASSWORD}'")
    return "reporter"


def bodies(store: PostgresqlStore) -> list[str]:
    return store.page(Query(limit=1000)).bodies


def database_of(url: str) -> str:
    return url.rpartition("/")[2] if "?" not in url else url.partition("@/")[2].partition("?")[0]


def end_connections(postgresql: Postgresql, url: str) -> None:
    """End all connections to a database, as an administrator does."""
    name = database_of(url)
    postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@contextmanager
def other(url: str) -> Iterator[psycopg.Connection]:
    """A transaction of another program."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


# -- what was acknowledged is stored, and each once


def test_lost_connections_are_replaced_within_the_request(
    store: PostgresqlStore, postgresql: Postgresql, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.add([make_row("a")])
    assert bodies(store) == ['"a"']
    for number in range(3):
        end_connections(postgresql, url)
        assert len(bodies(store)) == 1 + number
        assert store.add([make_row(str(number))]).stored == 1

    assert len(bodies(store)) == 4
    assert caplog.records == []


def test_after_a_restart_of_the_server_everything_works_again(
    store: PostgresqlStore, postgresql: Postgresql, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[None] = []
    store.add([make_row("a")])
    store.watch(lambda: called.append(None))
    postgresql.stop()
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="no connection to PostgreSQL") as caught:
                store.add([make_row("b")])
        assert caught.value.retry_after == 10
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            bodies(store)
    finally:
        postgresql.start()

    assert store.add([make_row("a"), make_row("b")]) == Added(1, (make_row("a")[0],))
    assert bodies(store) == ['"a"', '"b"']
    # One line when it starts, with the reason, and one when it ends.
    lines = [record.getMessage() for record in caplog.records if record.name == "brockman.collector"]
    assert "failed" in lines[0]
    assert lines[1:] == ["brockman: triggers can be stored again"]
    called.clear()
    assert eventually(lambda: called)  # it listens again


def test_a_server_that_is_read_only_is_a_503(store: PostgresqlStore, postgresql: Postgresql, url: str) -> None:
    """As the old one is after a failover."""
    store.add([make_row("a")])
    postgresql.execute(f"ALTER DATABASE {database_of(url)} SET default_transaction_read_only = on")
    end_connections(postgresql, url)

    with pytest.raises(StoreUnavailable, match="read-only transaction") as caught:
        store.add([make_row("b")])

    assert caught.value.retry_after == 10
    postgresql.execute(f"ALTER DATABASE {database_of(url)} SET default_transaction_read_only = off")
    end_connections(postgresql, url)
    assert store.add([make_row("b")]).stored == 1


def test_a_lock_of_another_program_is_waited_for_and_not_for_ever(store: PostgresqlStore, url: str) -> None:
    store.add([make_row("a")])
    with other(url) as connection:
        connection.execute("LOCK TABLE brockman.ids")
        with pytest.raises(StoreUnavailable, match="lock timeout") as caught:
            store.add([make_row("b")])
        assert caught.value.retry_after == 1
        assert bodies(store) == ['"a"']  # readers do not wait

    assert store.add([make_row("b")]).stored == 1


@pytest.mark.parametrize(("failures", "stored"), [(2, 1), (3, 0)])
@pytest.mark.parametrize("condition", ["deadlock_detected", "serialization_failure"])
def test_a_request_is_tried_again_after_a_deadlock_but_not_for_ever(
    store: PostgresqlStore, postgresql: Postgresql, url: str, condition: str, failures: int, stored: int
) -> None:
    postgresql.execute(
        f"""
        CREATE SEQUENCE brockman.tries;
        CREATE FUNCTION brockman.fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('brockman.tries') <= {failures} THEN
                RAISE EXCEPTION 'failed' USING ERRCODE = '{condition}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON brockman.tally FOR EACH ROW EXECUTE FUNCTION brockman.fail()
        """,
        url,
    )
    if stored:
        assert store.add([make_row("a")]).stored == 1
    else:
        with pytest.raises(StoreUnavailable) as caught:
            store.add([make_row("a")])
        assert caught.value.retry_after == 1
    assert len(bodies(store)) == stored


def test_a_failure_within_a_request_stores_nothing_of_it(
    store: PostgresqlStore, postgresql: Postgresql, url: str
) -> None:
    postgresql.execute("ALTER TABLE brockman.tally ADD CONSTRAINT few CHECK (requests < 1)", url)

    with pytest.raises(StoreUnavailable):
        store.add([make_row("a")])

    assert bodies(store) == []
    postgresql.execute("ALTER TABLE brockman.tally DROP CONSTRAINT few", url)
    assert store.add([make_row("a")]) == Added(1, ())


def test_without_a_free_connection_the_client_is_asked_to_wait(url: str) -> None:
    with closing(PostgresqlStore(url, busy_timeout=0.1, connections=1)) as store, other(url) as connection:
        connection.execute("LOCK TABLE brockman.ids")
        errors: list[StoreUnavailable] = []

        def add(name: str) -> None:
            try:
                store.add([make_row(name)])
            except StoreUnavailable as error:
                errors.append(error)

        threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {error.retry_after for error in errors} == {1}
        assert any("all connections to the database are in use" in str(error) for error in errors)


def test_too_many_connections_are_a_503(postgresql: Postgresql, role: str) -> None:
    url = postgresql.create_database(f"OWNER {role}")
    name = database_of(url)
    address = f"postgresql://{role}:{QUOTED_PASSWORD}@127.0.0.1:{postgresql.port}/{name}"
    with closing(PostgresqlStore(address)) as store:
        postgresql.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        with pytest.raises(StoreUnavailable):
            store.add([make_row("a")])
        postgresql.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        assert store.add([make_row("a")]).stored == 1


def test_a_reader_does_not_overtake_a_transaction_that_has_begun(store: PostgresqlStore, url: str) -> None:
    """A cursor behind what is committed would miss what is not."""
    store.add([make_row("before")])
    with other(url) as connection:
        connection.execute("SET search_path = brockman")
        (block,) = connection.execute("SELECT draw_block()").fetchone() or (0,)
        store.add([make_row("behind")])
        assert bodies(store) == ['"before"']
        values = (block + 1, 0, '"begun"')
        connection.execute("INSERT INTO triggers VALUES (%s, 'a', 'b', 'c', 0, %s, %s)", values)
        connection.commit()

    assert bodies(store) == ['"before"', '"begun"', '"behind"']


# -- tables


def test_collectors_that_start_at_once_make_the_tables_once(url: str) -> None:
    stores: list[PostgresqlStore] = []
    threads = [threading.Thread(target=lambda: stores.append(PostgresqlStore(url))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threads = [threading.Thread(target=store.add, args=([make_row("a")],)) for store in stores]  # a partition too
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stores) == 5
    assert bodies(stores[0]) == ['"a"']
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE brockman.version SET applied = 99", "it was made by a newer brockman"),
        ("DROP TABLE brockman.version", "its schema 'brockman' is of something else"),
    ],
)
def test_a_schema_of_something_else_is_refused(
    postgresql: Postgresql, url: str, statement: str, reason: str
) -> None:
    PostgresqlStore(url).close()
    postgresql.execute(statement, url)

    with pytest.raises(InvalidSetting, match=f"^database: '.*' cannot be used: {reason}$"):
        open_store(url)


def test_a_database_in_another_encoding_is_refused(postgresql: Postgresql) -> None:
    url = postgresql.create_database("ENCODING 'LATIN1' TEMPLATE template0")

    with pytest.raises(InvalidSetting, match="its encoding is LATIN1; create it with: createdb --encoding UTF8"):
        open_store(url)


def test_a_user_without_rights_is_an_invalid_setting(postgresql: Postgresql, url: str, role: str) -> None:
    address = f"postgresql://{role}:{QUOTED_PASSWORD}@127.0.0.1:{postgresql.port}/{database_of(url)}"

    with pytest.raises(InvalidSetting, match="permission denied for database"):
        open_store(address)


def test_a_user_may_have_a_schema_and_no_right_to_make_one(postgresql: Postgresql, url: str, role: str) -> None:
    postgresql.execute(f"CREATE SCHEMA brockman AUTHORIZATION {role}", url)
    address = f"postgresql://{role}:{QUOTED_PASSWORD}@127.0.0.1:{postgresql.port}/{database_of(url)}"

    with closing(open_store(address)) as store:
        assert store.add([make_row("a")]).stored == 1
        assert store.prune(10**16) == 1


def test_a_month_is_a_partition_and_pruning_drops_it(
    store: PostgresqlStore, postgresql: Postgresql, url: str
) -> None:
    def tables() -> list[str]:
        found = postgresql.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'brockman' ORDER BY 1", url)
        return [name for name in found.splitlines() if name[-1].isdigit()]

    store.add([make_row("a", received_at=1_780_000_000_000_000), make_row("b", received_at=1_790_000_000_000_000)])
    assert tables() == ["triggers_202605", "triggers_202609"]

    with other(url) as connection:  # another collector removes at this time
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (PRUNE_LOCK,))
        assert store.prune(1_790_000_000_000_000) == 0
    assert store.prune(1_790_000_000_000_000) == 1
    assert tables() == ["triggers_202609"]
    assert postgresql.execute("SELECT count(*) FROM brockman.ids", url) == "1"

    with closing(PostgresqlStore(url)) as behind:  # does not know that the partition is gone
        behind.add([make_row("c", received_at=1_780_000_000_000_000)])
        assert store.prune(1_790_000_000_000_000) == 1
        assert behind.add([make_row("d", received_at=1_780_000_000_000_000)]).stored == 1


def test_a_new_month_does_not_wait_for_a_reader(store: PostgresqlStore, url: str) -> None:
    """A long query of a report, at the turn of a month."""
    store.add([make_row("a")])
    with other(url) as connection:
        connection.execute("SELECT count(*) FROM brockman.triggers")
        assert store.add([make_row("b", received_at=1_790_000_000_000_000)]).stored == 1

    assert bodies(store) == ['"a"', '"b"']


def test_a_removal_gives_way_to_a_reader(store: PostgresqlStore, url: str) -> None:
    store.add([make_row("a")])
    with other(url) as connection:
        connection.execute("SELECT count(*) FROM brockman.triggers")
        with pytest.raises(StoreUnavailable, match=r"old triggers cannot be removed: .*lock timeout"):
            store.prune(1_790_000_000_000_000)
        assert bodies(store) == ['"a"']

    assert store.prune(1_790_000_000_000_000) == 1


def test_an_interrupted_removal_is_finished_by_the_next(
    store: PostgresqlStore, postgresql: Postgresql, url: str
) -> None:
    """Until then nothing of it is seen, and its ids are known."""
    store.add([make_row("a")])
    postgresql.execute(
        "SET search_path = brockman; ALTER TABLE triggers DETACH PARTITION triggers_197001; "
        "ALTER TABLE triggers_197001 RENAME TO removed_5",
        url,
    )
    assert bodies(store) == []
    assert store.add([make_row("a")]).stored == 0

    store.prune(0)

    assert store.add([make_row("a")]).stored == 1


def test_the_page_of_an_actor_and_the_newest_triggers_are_found_by_an_index(
    store: PostgresqlStore, postgresql: Postgresql, url: str
) -> None:
    store.add([make_row(str(n), actor_id=str(n % 500), body="x" * 300, recorded_at=n) for n in range(20_000)])
    postgresql.execute("ANALYZE brockman.triggers", url)

    def plan(condition: str, order: str) -> str:
        statement = f"SELECT arrival, body FROM brockman.triggers WHERE {condition} ORDER BY {order} LIMIT 100"
        return postgresql.execute(f"EXPLAIN {statement}", url)

    actor = plan("left(actor_id, 64) = left('7', 64) AND actor_id = '7' AND arrival < 99999999999", "arrival DESC")
    newest = plan("arrival < 99999999999 AND action = 'viewed'", "arrival DESC")
    period = plan("recorded_at >= 19000 AND recorded_at < 19100", "recorded_at")
    assert "Sort" not in newest
    for text in (actor, newest, period):
        assert "Index" in text
        assert "Seq Scan" not in text


# -- passwords


def address(postgresql: Postgresql, role: str, password: str = "") -> str:
    """Return a URL on the port, where a password is needed, of a new database."""
    name = database_of(postgresql.create_database(f"OWNER {role}"))
    return f"postgresql://{role}{password}@127.0.0.1:{postgresql.port}/{name}"


def test_a_password_may_be_in_the_url_the_environment_or_a_file(
    postgresql: Postgresql, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(address(postgresql, role, f":{QUOTED_PASSWORD}")).close()
    open_store(f"{address(postgresql, role)}?password={QUOTED_PASSWORD}").close()

    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_store(address(postgresql, role)).close()
    monkeypatch.delenv("PGPASSWORD")

    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:*:*:{role}:{PASSWORD}\n".replace("pass:", "pass\\:"))
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    open_store(address(postgresql, role)).close()
    monkeypatch.delenv("PGPASSFILE")
    open_store(f"{address(postgresql, role)}?passfile={passfile}").close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret@127.0.0.1:1/x",
        "postgresql://ada@127.0.0.1:1/x?password=s3cret",
        "postgresql://ada@127.0.0.1:1/x?%70assword=s3cret",
        "postgresql://ada:s3cret/x@127.0.0.1:1/x",
        "postgresql://ada:x@s3cret@127.0.0.1:1/x",
        "postgresql://ada:%s3cret@127.0.0.1:1/x",
        "postgresql://ada:x@127.0.0.1:1/x?unknown=s3cret&password=s3cret",
        "postgres://:s3cret@127.0.0.1:1",
        "mysql://ada:s3cret@127.0.0.1/x",
        "postgresql://ada:s3cret",
    ],
)
def test_no_error_shows_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidSetting, match=r"^database: ") as caught:
        open_store(url)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cret" not in caplog.text
    assert "s3cret" not in without_password(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:{}@127.0.0.1:1/x",
        "postgresql://:{}@127.0.0.1:1/x",
        "postgresql://ada:{}@/x?host=/tmp&port=1",
        "postgresql://ada@127.0.0.1:1/x?password={}",
        "postgresql://ada@127.0.0.1:1/x?sslmode=disable&password={}",
        "POSTGRESQL://ada:{}@127.0.0.1:1/x",
        "postgresql+psycopg://ada:{}@127.0.0.1:1/x",
    ],
)
def test_no_character_of_a_password_makes_an_error_show_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither one that ends a part of the URL, nor one that libpq takes for something else."""
    caplog.set_level(logging.DEBUG)
    for character in [*string.printable, "é", "\u20ac"]:
        for password in (f"qzjw{character}vxkq", f"{character}qzjw", f"vxkq{character}", f"47{character}vxkq"):
            location = url.format(password)
            with pytest.raises(InvalidSetting) as caught:
                open_store(location)
            texts = (without_password(location), str(caught.value), repr(caught.value), caplog.text)
            assert not any(part in text for text in texts for part in ("qzjw", "vxkq")), location
            assert caught.value.__cause__ is None
            caplog.clear()


def test_a_location_without_a_password_is_shown_as_it_is(tmp_path: Path) -> None:
    for url in (
        "postgresql://ada@db.example:5433/x?sslmode=require",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://ada@[::1]:5433/x",
        "postgresql://ada@one:5432,two:5433/x",
        "postgresql://db.example:5433",
    ):
        assert without_password(url) == url
        assert not is_ambiguous(url)
    assert without_password(tmp_path / "a:b@c") == str(tmp_path / "a:b@c")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "brockman.collector.store.postgresql")

    with pytest.raises(InvalidSetting, match=r"pip install 'brockman\[postgresql\]'"):
        open_store("postgresql://ada@127.0.0.1/x")


def test_a_store_shows_no_password(postgresql: Postgresql, role: str) -> None:
    url = address(postgresql, role, f":{QUOTED_PASSWORD}")
    with closing(open_store(url)) as store:
        assert "rd/4711" not in repr(store)
        postgresql.execute(f"ALTER ROLE {role} PASSWORD 'other'")
        try:
            end_connections(postgresql, url)
            with pytest.raises(StoreUnavailable) as caught:
                store.add([make_row("a")])
        finally:
            postgresql.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
    assert "4711" not in str(caught.value)
