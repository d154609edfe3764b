"""DuckDB behind a pipe: one JSON request per line in, one JSON answer per line out.

The benchmark runs it as a child process, so that DuckDB's memory and threads are its own.
make.py, which writes the kept answers, uses the same functions.
"""

import json
import os
import sys
import time

import duckdb


def milliseconds_since(start):
    return (time.perf_counter() - start) * 1000


def kind_of(type_name):
    """How the checker compares a column of this DuckDB type."""
    if type_name.endswith("INT") or type_name == "INTEGER":
        return "integer"
    if type_name.startswith("DECIMAL"):
        return "decimal"
    if type_name in ("DOUBLE", "FLOAT"):
        return "ratio"
    if type_name == "DATE":
        return "date"
    if type_name == "VARCHAR":
        return "text"
    raise ValueError(f"no kind for the type {type_name}")


def columns_of(connection, sql):
    """Names and kinds of a query's columns."""
    described = connection.execute("DESCRIBE " + sql).fetchall()
    return [(row[0], kind_of(row[1])) for row in described]


def text_of(value):
    """The text form of one value, as a Postgres client sees it; None is NULL."""
    if value is None:
        return None
    if isinstance(value, float):
        return repr(value)
    return format(value, "f") if type(value).__name__ == "Decimal" else str(value)


class Peer:
    def __init__(self):
        self.connection = None
        self.path = None

    def open(self, request):
        self.path = request["path"]
        self.connection = duckdb.connect(self.path)
        self.connection.execute(f"SET threads = {int(request['threads'])}")
        return {"version": duckdb.__version__}

    def load(self, request):
        """Make native tables of the Parquet files and write them to the database file."""
        start = time.perf_counter()
        rows = []
        for table in request["tables"]:
            files = os.path.join(request["directory"], table, "*.parquet")
            self.connection.execute(
                f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{files}')"
            )
        self.connection.execute("CHECKPOINT")
        elapsed = milliseconds_since(start)
        for table in request["tables"]:
            rows.append(self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        return {"milliseconds": elapsed, "rows": rows, "bytes": os.path.getsize(self.path)}

    def query(self, request):
        """Run a query; the time ends when its whole result is in memory."""
        start = time.perf_counter()
        result = self.connection.execute(request["sql"])
        elapsed = milliseconds_since(start)
        rows = result.fetchall()
        answer = {"milliseconds": elapsed}
        if request["answer"]:
            answer["rows"] = [[text_of(value) for value in row] for row in rows]
            answer["columns"] = columns_of(self.connection, request["sql"])
        return answer


def main():
    peer = Peer()
    actions = {"open": peer.open, "load": peer.load, "query": peer.query}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = actions[request["action"]](request)
        except Exception as error:  # Any failure is reported to the caller, who decides.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
