// A client on pgjdbc. The first argument is the address, the second the scenario; a failed check
// ends the program with a stack trace and status 1.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;

public class Client {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            switch (arguments[1]) {
                case "prepared" -> prepared(connection);
                case "types" -> types(connection);
                case "fetch" -> fetch(connection);
                case "timeout" -> timeout(connection);
                case "cancel" -> cancel(connection);
                case "batch" -> batch(connection);
                case "transaction" -> transaction(connection);
                default -> throw new IllegalArgumentException(arguments[1]);
            }
            check(connection.isValid(5), true);
        }
        System.out.println("ok");
    }

    // From the fifth execution on, the driver uses a named statement and binary results.
    static void prepared(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE p (id int, name varchar(20), price decimal(10,2))");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO p VALUES (?, ?, ?)")) {
            for (int id = 0; id < 12; id++) {
                insert.setInt(1, id);
                insert.setString(2, id % 3 == 0 ? null : "name " + id);
                insert.setBigDecimal(3, new BigDecimal(id).movePointLeft(1).setScale(2));
                check(insert.executeUpdate(), 1);
            }
        }
        String sql = "SELECT name, price FROM p WHERE id = ?";
        try (PreparedStatement select = connection.prepareStatement(sql)) {
            for (int id = 0; id < 12; id++) {
                select.setInt(1, id);
                try (ResultSet rows = select.executeQuery()) {
                    check(rows.next(), true);
                    check(rows.getString(1), id % 3 == 0 ? null : "name " + id);
                    check(rows.getBigDecimal(2), new BigDecimal(id).movePointLeft(1).setScale(2));
                    check(rows.next(), false);
                }
            }
        }
    }

    static void types(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE t (a smallint, b int, c bigint, d decimal(18,4), e real,"
            + " f double precision, g boolean, h char(4), i varchar(30), j date, k timestamp)");
        run(connection, "INSERT INTO t VALUES (-32768, 2147483647, -9223372036854775808, 12.3456,"
            + " 1.5, -2.25, true, 'ab', 'caf\u00e9', '1999-12-31', '2001-02-03 04:05:06.789')");
        int[] expected = {Types.SMALLINT, Types.INTEGER, Types.BIGINT, Types.NUMERIC, Types.REAL,
            Types.DOUBLE, Types.BIT, Types.CHAR, Types.VARCHAR, Types.DATE, Types.TIMESTAMP};
        // Seven times, so that both text and binary results are read.
        try (PreparedStatement select = connection.prepareStatement("SELECT * FROM t")) {
            for (int time = 0; time < 7; time++) {
                try (ResultSet rows = select.executeQuery()) {
                    ResultSetMetaData metadata = rows.getMetaData();
                    for (int column = 1; column <= expected.length; column++) {
                        check(metadata.getColumnType(column), expected[column - 1]);
                    }
                    check(metadata.getPrecision(4), 18);
                    check(metadata.getScale(4), 4);
                    check(rows.next(), true);
                    check(rows.getShort(1), Short.MIN_VALUE);
                    check(rows.getInt(2), Integer.MAX_VALUE);
                    check(rows.getLong(3), Long.MIN_VALUE);
                    check(rows.getBigDecimal(4), new BigDecimal("12.3456"));
                    check(rows.getFloat(5), 1.5f);
                    check(rows.getDouble(6), -2.25);
                    check(rows.getBoolean(7), true);
                    check(rows.getString(8).trim(), "ab");
                    check(rows.getString(9), "caf\u00e9");
                    check(rows.getDate(10), Date.valueOf("1999-12-31"));
                    check(rows.getTimestamp(11), Timestamp.valueOf("2001-02-03 04:05:06.789"));
                }
            }
        }
    }

    // Inside a transaction the driver reads a portal in parts.
    static void fetch(Connection connection) throws SQLException {
        digits(connection);
        connection.setAutoCommit(false);
        String sql = "SELECT a.d * 100 + b.d * 10 + c.d FROM digits a, digits b, digits c";
        for (int size : new int[] {1, 7, 999, 1000, 1001, Integer.MAX_VALUE, 0}) {
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(size);
                try (ResultSet rows = statement.executeQuery(sql)) {
                    long count = 0;
                    long sum = 0;
                    while (rows.next()) {
                        count++;
                        sum += rows.getLong(1);
                    }
                    check(count, 1000L);
                    check(sum, 499500L);
                }
            }
        }
        // A portal that is closed before its end leaves the session usable.
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(10);
            try (ResultSet rows = statement.executeQuery(sql)) {
                check(rows.next(), true);
            }
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void timeout(Connection connection) throws SQLException {
        digits(connection);
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            long begun = System.nanoTime();
            checkFails(() -> statement.executeQuery(endless()), "57014");
            check((System.nanoTime() - begun) / 1_000_000_000L < 8, true);
        }
    }

    static void cancel(Connection connection) throws Exception {
        digits(connection);
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(700);
                    statement.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            checkFails(() -> statement.executeQuery(endless()), "57014");
            canceller.join();
        }
    }

    static void batch(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE b (id bigint, word varchar(10))");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO b VALUES (?, ?)")) {
            for (int id = 1; id <= 50; id++) {
                insert.setLong(1, id);
                insert.setString(2, "w" + id);
                insert.addBatch();
            }
            for (int count : insert.executeBatch()) {
                check(count, 1);
            }
        }
        check(scalar(connection, "SELECT sum(id) FROM b"), 1275L);
    }

    static void transaction(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE x (id bigint)");
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO x VALUES (1)");
        connection.rollback();
        run(connection, "INSERT INTO x VALUES (2)");
        connection.commit();
        checkFails(() -> run(connection, "SELECT 1/0"), "22012");
        checkFails(() -> run(connection, "SELECT 1"), "25P02");
        connection.rollback();
        connection.setAutoCommit(true);
        check(scalar(connection, "SELECT sum(id) FROM x"), 2L);
    }

    static void digits(Connection connection) throws SQLException {
        run(connection, "CREATE TABLE digits (d bigint)");
        run(connection, "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)");
    }

    static String endless() {
        return "SELECT sum(a.d * b.d + c.d * k.d) FROM digits a, digits b, digits c, digits d,"
            + " digits e, digits f, digits g, digits h, digits i, digits j, digits k";
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static long scalar(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            check(rows.next(), true);
            return rows.getLong(1);
        }
    }

    interface Action {
        void run() throws SQLException;
    }

    static void checkFails(Action action, String state) throws SQLException {
        try {
            action.run();
        } catch (SQLException error) {
            check(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("succeeded, expected an error " + state);
    }

    static void check(Object actual, Object expected) {
        if (expected == null ? actual != null : !expected.equals(actual)) {
            throw new AssertionError(actual + ", expected " + expected);
        }
    }
}
