"""Write the kept answers with DuckDB over the generated Parquet files.

usage: make.py PARQUET_DIRECTORY ANSWER_DIRECTORY
(README.md shows the whole sequence.)
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import duckdb  # noqa: E402
from duckdb_peer import columns_of, text_of  # noqa: E402

TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]


def field(value):
    """One CSV field; NULL is empty without quotes, the empty string is a pair of quotes."""
    if value is None:
        return ""
    if value == "" or any(character in value for character in ',"\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def main():
    source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    for table in TABLES:
        files = source / table / "*.parquet"
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{files}')")
    for path in sorted((HERE.parent / "queries").glob("q*.sql")):
        sql = path.read_text().strip().rstrip(";")
        lines = [",".join(field(f"{name}:{kind}") for name, kind in columns_of(connection, sql))]
        for row in connection.execute(sql).fetchall():
            lines.append(",".join(field(text_of(value)) for value in row))
        (target / (path.stem + ".csv")).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
