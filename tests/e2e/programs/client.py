"""A client on psycopg 3, psycopg2 or pyodbc. The first argument is the scenario; the server is
found by the PG* variables of the environment. A failed assertion ends the program with status 1."""

import datetime
import decimal
import glob
import os
import sys
import threading
import time

ENDLESS = "SELECT sum(a.d * b.d + c.d * k.d) FROM " + ", ".join(f"digits {n}" for n in "abcdefghijk")
THOUSAND = "SELECT a.d * 100 + b.d * 10 + c.d FROM digits a, digits b, digits c"
DIGITS = "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)"
CREATE_TYPES = """CREATE TABLE t (a smallint, b int, c bigint, d decimal(18,4), e real,
    f double precision, g boolean, h varchar(30), i date, j timestamp)"""
ROW = (
    -32768,
    2147483647,
    -9223372036854775808,
    decimal.Decimal("12.3456"),
    1.5,
    -2.25,
    True,
    "caf\u00e9",
    datetime.date(1999, 12, 31),
    datetime.datetime(2001, 2, 3, 4, 5, 6, 789000),
)
NULLS = (None,) * len(ROW)


def fails(action, state):
    """Runs what must fail with this SQLSTATE."""
    try:
        action()
    except Exception as error:
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or error.args[0]
        assert code == state, (code, error)
        return
    raise AssertionError(f"succeeded, expected an error {state}")


def endless_ends(action):
    """A query of minutes must be ended from outside within seconds, with the code of a cancel."""
    begun = time.monotonic()
    fails(action, "57014")
    assert time.monotonic() - begun < 8


def make_digits(cursor):
    cursor.execute("CREATE TABLE digits (d bigint)")
    cursor.execute(DIGITS)


# psycopg 3: the extended protocol.


def psycopg3():
    import psycopg

    return psycopg, psycopg.connect("", autocommit=True)


def psycopg3_types():
    psycopg, connection = psycopg3()
    connection.execute(CREATE_TYPES)
    places = ", ".join(["%s"] * len(ROW))
    for row in (ROW, NULLS):
        connection.execute(f"INSERT INTO t VALUES ({places})", row)
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            # Often enough that the driver prepares the statement.
            for _ in range(8):
                rows = cursor.execute("SELECT * FROM t ORDER BY a").fetchall()
                assert rows == [ROW, NULLS], rows


def psycopg3_prepared():
    psycopg, connection = psycopg3()
    make_digits(connection)
    for number in range(20):
        sql = "SELECT count(*), sum(d) FROM digits WHERE d < %s"
        count, total = connection.execute(sql, (number % 10,)).fetchone()
        below = range(number % 10)
        assert (count, total) == (len(below), sum(below) if below else None), (number, count, total)
    fails(lambda: connection.execute("SELECT 1 / (d - %s) FROM digits", (3,)).fetchall(), "22012")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def psycopg3_stream():
    psycopg, connection = psycopg3()
    make_digits(connection)
    with connection.cursor() as cursor:
        values = [row[0] for row in cursor.stream(THOUSAND, size=17)]
    assert sorted(values) == list(range(1000))


def psycopg3_pipeline():
    psycopg, connection = psycopg3()
    make_digits(connection)
    with connection.pipeline():
        cursors = [connection.execute("SELECT d + %s FROM digits ORDER BY d", (n,)) for n in range(5)]
        for number, cursor in enumerate(cursors):
            assert [row[0] for row in cursor.fetchall()] == [d + number for d in range(10)]


def psycopg3_cancel():
    psycopg, connection = psycopg3()
    make_digits(connection)
    threading.Timer(0.7, connection.cancel_safe).start()
    endless_ends(lambda: connection.execute(ENDLESS))
    assert connection.execute("SELECT 1").fetchone() == (1,)


def psycopg3_transaction():
    psycopg, connection = psycopg3()
    connection.execute("CREATE TABLE x (a int)")
    try:
        with connection.transaction():
            connection.execute("INSERT INTO x VALUES (1)")
            connection.execute("SELECT 1/0")
    except psycopg.errors.DivisionByZero:
        pass
    with connection.transaction():
        connection.execute("INSERT INTO x VALUES (2)")
    assert connection.execute("SELECT a FROM x").fetchall() == [(2,)]


def psycopg3_server_cursor():
    psycopg, connection = psycopg3()
    make_digits(connection)
    with connection.transaction(), connection.cursor("Srv") as cursor:
        cursor.execute(THOUSAND)
        assert [column.name for column in cursor.description] == ["?column?"], cursor.description
        cursor.itersize = 70
        assert sorted(row[0] for row in cursor) == list(range(1000))


def psycopg3_savepoint():
    psycopg, connection = psycopg3()
    connection.execute("CREATE TABLE x (a int)")
    with connection.transaction():
        connection.execute("INSERT INTO x VALUES (1)")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO x VALUES (2)")
                connection.execute("SELECT 1/0")
        except psycopg.errors.DivisionByZero:
            pass
        with connection.transaction():
            connection.execute("INSERT INTO x VALUES (3)")
    assert connection.execute("SELECT a FROM x ORDER BY a").fetchall() == [(1,), (3,)]


# psycopg2: the simple protocol.


def psycopg2_types():
    import psycopg2

    connection = psycopg2.connect("")
    with connection, connection.cursor() as cursor:
        cursor.execute(CREATE_TYPES)
        for row in (ROW, NULLS):
            cursor.execute("INSERT INTO t VALUES (%s)" % ", ".join(["%s"] * len(ROW)), row)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM t ORDER BY a")
        assert cursor.fetchall() == [ROW, NULLS]
        columns = [column[0] for column in cursor.description]
        assert columns == list("abcdefghij"), columns


def psycopg2_transaction():
    import psycopg2

    connection = psycopg2.connect("")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE x (a int)")
        connection.commit()
        cursor.execute("INSERT INTO x VALUES (1)")
        connection.rollback()
        fails(lambda: cursor.execute("SELECT nope FROM x"), "42703")
        fails(lambda: cursor.execute("SELECT a FROM x"), "25P02")
        connection.rollback()
        cursor.execute("SELECT count(*) FROM x")
        assert cursor.fetchone() == (0,)


def psycopg2_server_cursor():
    import psycopg2

    connection = psycopg2.connect("")
    with connection, connection.cursor() as cursor:
        make_digits(cursor)
    with connection, connection.cursor("srv") as cursor:
        cursor.itersize = 70
        cursor.execute(THOUSAND)
        assert sorted(row[0] for row in cursor) == list(range(1000))


def psycopg2_cancel():
    import psycopg2

    connection = psycopg2.connect("")
    connection.autocommit = True
    with connection.cursor() as cursor:
        make_digits(cursor)
        threading.Timer(0.7, connection.cancel).start()
        endless_ends(lambda: cursor.execute(ENDLESS))
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


# pyodbc: psqlodbc through unixODBC.


def odbc(autocommit=True, **options):
    import pyodbc

    # Driver by path, so that no odbcinst.ini has to name it.
    driver = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")
    assert driver, "psqlodbcw.so is missing; tests/run installs odbc-postgresql"
    settings = {
        "Driver": driver[0],
        "Server": os.environ["PGHOST"],
        "Port": os.environ["PGPORT"],
        "Database": os.environ["PGDATABASE"],
        "UID": os.environ["PGUSER"],
        "PWD": os.environ["PGPASSWORD"],
        "SSLmode": "disable",
        **options,
    }
    text = ";".join(f"{name}={value}" for name, value in settings.items())
    return pyodbc.connect(text, autocommit=autocommit)


def odbc_types():
    connection = odbc(BoolsAsChar=0)
    cursor = connection.cursor()
    cursor.execute(CREATE_TYPES)
    for row in (ROW, NULLS):
        cursor.execute("INSERT INTO t VALUES (%s)" % ", ".join("?" * len(ROW)), row)
    rows = [tuple(row) for row in cursor.execute("SELECT * FROM t ORDER BY a").fetchall()]
    assert rows == [ROW, NULLS], rows


def odbc_prepared():
    cursor = odbc(UseServerSidePrepare=1).cursor()
    make_digits(cursor)
    for number in range(12):
        cursor.execute("SELECT count(*) FROM digits WHERE d < ?", number)
        assert cursor.fetchone()[0] == min(number, 10)
    cursor.execute("CREATE TABLE many (a int, b varchar(10))")
    cursor.executemany("INSERT INTO many VALUES (?, ?)", [(n, f"w{n}") for n in range(30)])
    assert cursor.execute("SELECT sum(a) FROM many").fetchone()[0] == 435


def odbc_fetch():
    cursor = odbc().cursor()
    make_digits(cursor)
    cursor.execute(THOUSAND)
    values = []
    while rows := cursor.fetchmany(33):
        values += [row[0] for row in rows]
    assert sorted(values) == list(range(1000))


def odbc_error():
    cursor = odbc().cursor()
    fails(lambda: cursor.execute("SELECT * FROM nowhere"), "42P01")
    assert cursor.execute("SELECT 7").fetchone()[0] == 7


def odbc_transaction():
    # Protocol 7.4-1: an error undoes the whole transaction, as in Redshift, without savepoints.
    connection = odbc(autocommit=False, Protocol="7.4-1")
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE x (a int)")
    connection.commit()
    cursor.execute("INSERT INTO x VALUES (1)")
    connection.rollback()
    cursor.execute("INSERT INTO x VALUES (2)")
    connection.commit()
    assert cursor.execute("SELECT sum(a) FROM x").fetchone()[0] == 2
    connection.commit()


def odbc_savepoint():
    # By default the driver guards each statement of a transaction by a savepoint.
    connection = odbc(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE x (a int)")
    cursor.execute("INSERT INTO x VALUES (1)")
    fails(lambda: cursor.execute("SELECT * FROM nowhere"), "42P01")
    cursor.execute("INSERT INTO x VALUES (2)")
    connection.commit()
    assert cursor.execute("SELECT sum(a) FROM x").fetchone()[0] == 3
    connection.commit()


def odbc_declare_fetch():
    # Every query goes through a cursor of SQL, in autocommit mode, too.
    for autocommit in (True, False):
        connection = odbc(autocommit=autocommit, UseDeclareFetch=1, Fetch=33)
        cursor = connection.cursor()
        if autocommit:
            make_digits(cursor)
        cursor.execute(THOUSAND)
        values = []
        while rows := cursor.fetchmany(50):
            values += [row[0] for row in rows]
        assert sorted(values) == list(range(1000))
        assert cursor.execute("SELECT 7").fetchone()[0] == 7
        cursor.close()
        if not autocommit:
            connection.commit()


def odbc_catalog():
    cursor = odbc().cursor()
    cursor.execute("CREATE TABLE item (id int NOT NULL, name varchar(20), price decimal(8,2))")
    tables = [(row.table_name, row.table_type) for row in cursor.tables(schema="public")]
    assert tables == [("item", "TABLE")], tables
    columns = cursor.columns(table="item", schema="public").fetchall()
    columns = [(c.column_name, c.type_name, c.column_size, c.nullable) for c in columns]
    expected = [("id", "int4", 10, 0), ("name", "varchar", 20, 1), ("price", "numeric", 8, 1)]
    assert columns == expected, columns
    assert cursor.primaryKeys("item").fetchall() == []
    if os.environ.get("BLUESHIFT_TEST_URL") is None:
        # What the driver asks for these is of PostgreSQL 8.0 and gone from later releases.
        assert cursor.foreignKeys("item").fetchall() == []
        statistics = cursor.statistics("item").fetchall()
        assert [row for row in statistics if row.index_name] == [], statistics
    cursor.getTypeInfo().fetchall()
    assert cursor.procedures().fetchall() is not None


def odbc_cancel():
    cursor = odbc().cursor()
    make_digits(cursor)
    threading.Timer(0.7, cursor.cancel).start()
    # psqlodbc gives a cancel the state HY008 or passes the server's on, by version.
    begun = time.monotonic()
    try:
        cursor.execute(ENDLESS)
        raise AssertionError("was not cancelled")
    except Exception as error:
        assert error.args[0] in ("57014", "HY008"), error
    assert time.monotonic() - begun < 8
    assert cursor.execute("SELECT 1").fetchone()[0] == 1


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("ok")
