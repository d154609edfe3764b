//! Users and groups: who may log in, with what limits, and who may change them.

use std::time::Duration;

use tokio_postgres::{Client, Config};

use crate::support::cluster::{Cluster, Options, PASSWORD, connect};

fn config_of(cluster: &Cluster, user: &str, password: &str) -> Config {
    let mut config = cluster.address.config();
    config.user(user).password(password);
    config
}

async fn refusal(config: &Config) -> (String, String) {
    let error = connect(config).await.err().unwrap();
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

async fn code_of(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.unwrap_err();
    error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()
}

#[tokio::test]
async fn users_log_in_with_their_passwords_until_they_may_not() {
    let mut cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    admin.batch_execute("CREATE USER ann PASSWORD 'Secret123' CREATEDB").await.unwrap();
    connect(&config_of(&cluster, "ann", "Secret123")).await.unwrap();
    let failed = ("28P01".to_owned(), "password authentication failed for user \"ann\"".to_owned());
    assert_eq!(refusal(&config_of(&cluster, "ann", "Secret124")).await, failed);

    admin.batch_execute("ALTER USER ann PASSWORD 'Another123'").await.unwrap();
    assert_eq!(refusal(&config_of(&cluster, "ann", "Secret123")).await, failed);
    connect(&config_of(&cluster, "ann", "Another123")).await.unwrap();

    admin.batch_execute("ALTER USER ann VALID UNTIL '2001-01-01'").await.unwrap();
    assert_eq!(refusal(&config_of(&cluster, "ann", "Another123")).await, failed, "expired");
    admin.batch_execute("ALTER USER ann VALID UNTIL 'infinity'").await.unwrap();
    connect(&config_of(&cluster, "ann", "Another123")).await.unwrap();
    admin.batch_execute("ALTER USER ann PASSWORD DISABLE").await.unwrap();
    assert_eq!(refusal(&config_of(&cluster, "ann", "Another123")).await, failed);

    for hash in ["md5153c434b4b77c89e6b94f12c5393af5b", "sha256|Mypassword1|salt"] {
        let sql = format!("CREATE USER bob PASSWORD '{hash}'");
        assert_eq!(code_of(&admin, &sql).await, "22023");
    }
    assert_eq!(code_of(&admin, "CREATE USER bob PASSWORD 'weak'").await, "22023");
    assert_eq!(code_of(&admin, "CREATE USER bob").await, "42601");
    assert_eq!(code_of(&admin, "CREATE USER ann PASSWORD 'Secret123'").await, "42710");

    // What was set is durable, and no password is written down anywhere.
    admin.batch_execute("ALTER USER ann PASSWORD 'Durable123'").await.unwrap();
    let recents = "SELECT count(*) FROM stv_recents WHERE query LIKE '%ann PASSWORD%''***''%'";
    let row = admin.query_one(recents, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) >= 2);
    let leaked = "SELECT count(*) FROM stv_recents WHERE query LIKE '%ecret12%'
        AND query NOT LIKE '%stv_recents%'";
    assert_eq!(admin.query_one(leaked, &[]).await.unwrap().get::<_, i64>(0), 0);
    drop(admin);
    cluster.kill();
    for path in ["catalog.sqlite", "catalog.sqlite-wal"] {
        let bytes = std::fs::read(cluster.data_directory().join(path)).unwrap_or_default();
        let found = bytes.windows(9).any(|part| part == b"Durable12" || part == b"Secret123");
        assert!(!found, "a password is in {path}");
    }
    assert!(!cluster.log().contains("Durable123") && !cluster.log().contains("Secret123"));
    cluster.restart();
    connect(&config_of(&cluster, "ann", "Durable123")).await.unwrap();
}

#[tokio::test]
async fn only_superusers_manage_users_and_reach_into_others() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    admin
        .batch_execute(
            "CREATE USER ann PASSWORD 'Secret123'; CREATE USER bob PASSWORD 'Secret123';
             CREATE TABLE private (a int)",
        )
        .await
        .unwrap();
    let ann = connect(&config_of(&cluster, "ann", "Secret123")).await.unwrap();
    let pid: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    for sql in [
        "CREATE USER eve PASSWORD 'Secret123'",
        "ALTER USER bob PASSWORD 'Secret124'",
        "ALTER USER ann CREATEUSER",
        "ALTER USER ann CONNECTION LIMIT UNLIMITED",
        "ALTER USER ann RENAME TO root",
        "DROP USER bob",
        "CREATE GROUP g",
        "ALTER SYSTEM SET wlm_json_configuration TO '[{}]'",
        "SELECT * FROM private",
        "INSERT INTO private VALUES (1)",
        "DROP TABLE private",
        "TRUNCATE private",
        "CREATE SCHEMA s",
        "SELECT * FROM stv_wlm_service_class_config",
        &format!("CANCEL {pid}"),
        &format!("SELECT pg_terminate_backend({pid})"),
        "SELECT change_user_priority('ann', 'high')",
    ] {
        assert_eq!(code_of(&ann, sql).await, "42501", "{sql}");
    }
    ann.batch_execute("ALTER USER ann SET query_group TO 'reports'").await.unwrap();
    ann.batch_execute("ALTER USER ann PASSWORD 'Secret125'").await.unwrap();
    ann.batch_execute("CREATE TABLE own (a int); INSERT INTO own VALUES (7)").await.unwrap();
    assert_eq!(ann.query_one("SELECT a FROM own", &[]).await.unwrap().get::<_, i32>(0), 7);
    admin.query_one("SELECT a FROM own", &[]).await.unwrap();
    let again = connect(&config_of(&cluster, "ann", "Secret125")).await.unwrap();
    let group = again.query_one("SELECT current_setting('query_group')", &[]).await.unwrap();
    assert_eq!(group.get::<_, String>(0), "reports");
    // Others' statements are none of her business.
    let others = "SELECT count(*) FROM stv_recents WHERE user_name <> 'ann'";
    assert_eq!(ann.query_one(others, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(admin.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0);
}

#[tokio::test]
async fn connections_of_a_user_are_limited_and_sessions_time_out() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    admin.batch_execute("CREATE USER ann PASSWORD 'Secret123' CONNECTION LIMIT 1").await.unwrap();
    let ann = config_of(&cluster, "ann", "Secret123");
    let first = connect(&ann).await.unwrap();
    let (code, message) = refusal(&ann).await;
    assert_eq!(code, "53300");
    assert!(message.contains("connection limit \"1\" exceeded for user \"ann\""), "{message}");
    admin.batch_execute("ALTER USER ann CONNECTION LIMIT UNLIMITED").await.unwrap();
    let second = connect(&ann).await.unwrap();
    drop((first, second));
    admin.batch_execute("ALTER USER ann CONNECTION LIMIT 0").await.unwrap();
    assert_eq!(refusal(&ann).await.0, "53300");

    assert_eq!(code_of(&admin, "ALTER USER ann SESSION TIMEOUT 59").await, "22023");
    admin
        .batch_execute("ALTER USER ann SESSION TIMEOUT 61; ALTER USER ann CONNECTION LIMIT 5")
        .await
        .unwrap();
    let client = connect(&ann).await.unwrap();
    let timeout = client.query_one("SELECT timeout_sec FROM stv_sessions", &[]).await.unwrap();
    assert_eq!(timeout.get::<_, i32>(0), 61);
    let setting = client.query_one("SHOW idle_session_timeout", &[]).await.unwrap();
    assert_eq!(setting.get::<_, String>(0), "61000");
}

#[tokio::test]
async fn users_and_groups_are_listed_renamed_and_dropped() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    admin
        .batch_execute(
            "CREATE GROUP staff; CREATE USER ann PASSWORD 'Secret123' IN GROUP staff
             CONNECTION LIMIT 7; ALTER USER ann SET query_group TO 'x';
             CREATE USER bob PASSWORD DISABLE; ALTER GROUP staff ADD USER bob",
        )
        .await
        .unwrap();
    let members = "SELECT count(*) FROM pg_user u, pg_group g
        WHERE u.usesysid = ANY(g.grolist) AND g.groname = 'staff'";
    let listed = admin.query_one(members, &[]).await.map(|row| row.get::<_, i64>(0));
    assert_eq!(listed.unwrap(), 2);
    let info = admin
        .query_one(
            "SELECT useconnlimit, array_to_string(useconfig, ',') FROM pg_user_info
             WHERE usename = 'ann'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(info.get::<_, String>(0), "7");
    assert_eq!(info.get::<_, String>(1), "query_group=x");

    let ann = connect(&config_of(&cluster, "ann", "Secret123")).await.unwrap();
    ann.batch_execute("CREATE TABLE kept (a int)").await.unwrap();
    assert_eq!(code_of(&admin, "ALTER USER ann RENAME TO anna").await, "55006", "connected");
    assert_eq!(code_of(&admin, "DROP USER ann").await, "55006", "connected");
    drop(ann);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = admin.batch_execute("ALTER USER ann RENAME TO anna").await {
        assert_eq!(error.code().unwrap().code(), "55006");
        assert!(std::time::Instant::now() < deadline, "the session of ann does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(code_of(&admin, "DROP USER anna").await, "2BP01", "she owns a table");
    let anna = connect(&config_of(&cluster, "anna", "Secret123")).await.unwrap();
    anna.batch_execute("INSERT INTO kept VALUES (1); DROP TABLE kept").await.unwrap();
    drop(anna);
    while let Err(error) = admin.batch_execute("DROP USER anna, bob").await {
        assert_eq!(error.code().unwrap().code(), "55006");
        assert!(std::time::Instant::now() < deadline, "the session of anna does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = admin.query_one("SELECT count(*) FROM pg_user", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 1);
    assert_eq!(code_of(&admin, "DROP USER awsuser").await, "55006");
    assert_eq!(code_of(&admin, "ALTER USER awsuser NOCREATEUSER").await, "55006");
    admin.batch_execute("DROP USER IF EXISTS anna; DROP GROUP staff").await.unwrap();
    connect(&config_of(&cluster, "awsuser", PASSWORD)).await.unwrap();
}

/// The name by which a statement addresses its own target is no name that a text can have.
#[tokio::test]
async fn no_name_leads_around_the_rights() {
    let cluster = Cluster::start_own(Options::default());
    let admin = cluster.connect().await;
    let tables =
        "CREATE TABLE secret (a int); INSERT INTO secret VALUES (1); CREATE TABLE other (a int)";
    admin.batch_execute(tables).await.unwrap();
    admin.batch_execute("CREATE USER eve PASSWORD 'Secret123'").await.unwrap();
    let eve = connect(&config_of(&cluster, "eve", "Secret123")).await.unwrap();
    let around = "SELECT a FROM \"\u{1e}target\".\"public\".\"secret\"";
    assert_eq!(code_of(&eve, around).await, "42601");
    for sql in
        ["SELECT a FROM secret", "DELETE FROM secret", "UPDATE secret SET a = 2", "VACUUM secret"]
    {
        assert_eq!(code_of(&eve, sql).await, "42501", "{sql}");
    }
    eve.batch_execute("CREATE TABLE own (a int)").await.unwrap();
    let sql = "DELETE FROM own USING secret WHERE own.a = secret.a";
    assert_eq!(code_of(&eve, sql).await, "42501");
}
