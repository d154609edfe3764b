//! CREATE USER, ALTER USER and DROP USER. Of a password only a verifier is kept.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use sql::statement::{
    AlterUser, CreateUser, DropNamed, NewPassword, SetValue, UserAction, UserOptions,
};

use super::command;
use crate::catalog::user::undefined;
use crate::catalog::{Change, GroupEntry, UserEntry};
use crate::engine::{SUPERUSER, verifier};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;
use crate::session::settings::Settings;

/// The longest name of a user or group, bytes.
const NAME_BYTES_MAX: usize = 127;
/// SESSION TIMEOUT, seconds: from a minute to twenty days.
const SESSION_TIMEOUT: std::ops::RangeInclusive<u32> = 60..=1_728_000;

/// CREATE USER
pub(super) fn create(session: &mut Session, statement: &CreateUser) -> Result<Execution> {
    session.require_superuser("create users")?;
    check_name(&statement.name)?;
    let view = session.transaction()?.view();
    if view.user(&statement.name).is_some() {
        let message = format!("user \"{}\" already exists", statement.name);
        return Err(Error::statement(code::DUPLICATE_OBJECT, message));
    }
    if statement.options.password.is_none() {
        let message = "a password is required to create a user";
        return Err(Error::statement(code::SYNTAX_ERROR, message).with_hint(
            "Write PASSWORD 'text', or PASSWORD DISABLE for a user who cannot log in.",
        ));
    }
    let mut entry = UserEntry {
        oid: session.engine().transactions.new_oid(),
        name: statement.name.clone(),
        ..UserEntry::default()
    };
    apply(session, &mut entry, &statement.options)?;
    let oid = entry.oid;
    session.transaction()?.change(Change::PutUser(entry, None))?;
    for name in &statement.groups {
        let group = view.group(name).ok_or_else(|| undefined("group", name))?;
        let mut members = group.members.clone();
        members.push(oid);
        let next = GroupEntry { members, ..group.clone() };
        session.transaction()?.change(Change::PutGroup(next, Some(group.clone())))?;
    }
    Ok(command("CREATE USER"))
}

/// ALTER USER. A user may set own parameters and the own password; the rest is for superusers.
pub(super) fn alter(session: &mut Session, statement: &AlterUser) -> Result<Execution> {
    let name = &statement.name;
    let view = session.transaction()?.view();
    let known = view.user(name).ok_or_else(|| undefined("user", name))?;
    let is_own = known.oid == session.user_oid() && is_for_oneself(&statement.action);
    if !is_own {
        session.require_superuser("alter users")?;
    }
    let mut entry = known.clone();
    match &statement.action {
        UserAction::Options(options) => apply(session, &mut entry, options)?,
        UserAction::Rename(new) => {
            check_name(new)?;
            check_unused(session, &entry, "renamed")?;
            entry.name.clone_from(new);
        }
        UserAction::Set(parameter, value) => set(session, &mut entry, parameter, value)?,
        UserAction::Reset(None) => entry.settings.clear(),
        UserAction::Reset(Some(parameter)) => {
            entry.settings.retain(|(name, _)| name != parameter);
        }
    }
    session.transaction()?.change(Change::PutUser(entry, Some(known.clone())))?;
    Ok(command("ALTER USER"))
}

/// DROP USER
pub(super) fn drop(session: &mut Session, statement: &DropNamed) -> Result<Execution> {
    session.require_superuser("drop users")?;
    for name in &statement.names {
        let view = session.transaction()?.view();
        let Some(user) = view.user(name) else {
            if !statement.if_exists {
                return Err(undefined("user", name));
            }
            let text = format!("User \"{name}\" does not exist and will be skipped");
            session.notice(Severity::Info, text);
            continue;
        };
        check_unused(session, user, "dropped")?;
        session.transaction()?.change(Change::DropUser(user.oid))?;
    }
    Ok(command("DROP USER"))
}

/// What users may change about themselves.
fn is_for_oneself(action: &UserAction) -> bool {
    match action {
        UserAction::Set(..) | UserAction::Reset(_) => true,
        UserAction::Rename(_) => false,
        UserAction::Options(options) => {
            let UserOptions {
                password: _,
                createdb,
                superuser,
                syslog_unrestricted,
                valid_until,
                connection_limit,
                session_timeout,
            } = options.as_ref();
            createdb.is_none()
                && superuser.is_none()
                && syslog_unrestricted.is_none()
                && valid_until.is_none()
                && connection_limit.is_none()
                && session_timeout.is_none()
        }
    }
}

/// Sessions know their user by its name: while there are any, it stays. So does the superuser of
/// the cluster, who owns what the system made.
fn check_unused(session: &Session, user: &UserEntry, done: &str) -> Result<()> {
    if user.name == SUPERUSER {
        let message = format!("user \"{SUPERUSER}\" cannot be {done}");
        return Err(Error::statement(code::OBJECT_IN_USE, message)
            .with_detail("It is the superuser of the cluster."));
    }
    let sessions = session.engine().activity.sessions();
    let count = sessions.iter().filter(|session| session.user == user.oid).count();
    if count == 0 {
        return Ok(());
    }
    let message = format!("user \"{}\" cannot be {done} while connected", user.name);
    Err(Error::statement(code::OBJECT_IN_USE, message)
        .with_detail(format!("There are {count} sessions of the user."))
        .with_hint("End them with pg_terminate_backend; stv_sessions lists them."))
}

fn apply(session: &Session, entry: &mut UserEntry, options: &UserOptions) -> Result<()> {
    match &options.password {
        None => {}
        Some(NewPassword::Disabled) => entry.verifier = None,
        Some(NewPassword::Text(password)) => {
            check_password(&entry.name, password.expose())?;
            entry.verifier = Some(verifier(password.expose())?);
        }
    }
    if let Some(superuser) = options.superuser {
        if entry.name == SUPERUSER && !superuser {
            let message = format!("user \"{SUPERUSER}\" stays a superuser");
            return Err(Error::statement(code::OBJECT_IN_USE, message));
        }
        entry.superuser = superuser;
    }
    entry.createdb = options.createdb.unwrap_or(entry.createdb);
    entry.syslog_unrestricted = options.syslog_unrestricted.unwrap_or(entry.syslog_unrestricted);
    if let Some(text) = &options.valid_until {
        entry.valid_until_us = moment(text, session.settings().time_zone())?;
    }
    entry.connection_limit = options.connection_limit.unwrap_or(entry.connection_limit);
    if let Some(timeout) = options.session_timeout {
        if timeout.is_some_and(|seconds| !SESSION_TIMEOUT.contains(&seconds)) {
            let message = format!(
                "SESSION TIMEOUT must be from {} to {} seconds",
                SESSION_TIMEOUT.start(),
                SESSION_TIMEOUT.end()
            );
            return Err(Error::statement(code::INVALID_PARAMETER_VALUE, message));
        }
        entry.session_timeout = timeout;
    }
    Ok(())
}

/// Redshift's rules for passwords. Hashes are refused: a verifier cannot be made of them.
fn check_password(user: &str, password: &str) -> Result<()> {
    let invalid = |message: &str| Err(Error::statement(code::INVALID_PARAMETER_VALUE, message));
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if password.strip_prefix("md5").is_some_and(|hash| hash.len() == 32 && is_hex(hash)) {
        return invalid("md5 passwords are not supported").map_err(with_hash_hint);
    }
    if password.starts_with("sha256|") {
        return invalid("sha256 password hashes are not supported").map_err(with_hash_hint);
    }
    let length = password.chars().count();
    if !(8..=64).contains(&length) {
        return invalid("password must have from 8 to 64 characters");
    }
    let has = |test: fn(&char) -> bool| password.chars().any(|c| test(&c));
    if !has(char::is_ascii_uppercase)
        || !has(char::is_ascii_lowercase)
        || !has(char::is_ascii_digit)
    {
        return invalid("password must have an uppercase letter, a lowercase letter and a digit");
    }
    let is_allowed =
        |c: char| matches!(c, '!'..='~') && !matches!(c, '\'' | '"' | '\\' | '/' | '@');
    if !password.chars().all(is_allowed) {
        return invalid(
            "password must have printable ASCII characters only, and none of ' \" \\ / @ and space",
        );
    }
    if password.eq_ignore_ascii_case(user) {
        return invalid("password must not be the user's name");
    }
    Ok(())
}

fn with_hash_hint(error: Error) -> Error {
    error.with_hint(
        "Give the password itself: the server keeps a SCRAM-SHA-256 verifier, never the password.",
    )
}

/// The moment of VALID UNTIL in microseconds since 1970; infinity is none.
fn moment(text: &str, zone: Tz) -> Result<Option<i64>> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("infinity") {
        return Ok(None);
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
    {
        return Ok(Some(moment.timestamp_micros()));
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M"))
        .or_else(|_| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map(|date| date.and_time(chrono::NaiveTime::MIN))
        });
    let moment = local.ok().and_then(|local| local.and_local_timezone(zone).earliest());
    match moment {
        Some(moment) => Ok(Some(moment.timestamp_micros())),
        None => {
            let message = format!("invalid input syntax for type abstime: \"{text}\"");
            Err(Error::statement("22007", message))
        }
    }
}

fn set(session: &Session, entry: &mut UserEntry, parameter: &str, value: &SetValue) -> Result<()> {
    entry.settings.retain(|(name, _)| name != parameter);
    let SetValue::Values(values) = value else { return Ok(()) };
    // A value that no session could take would lock the user out.
    let mut probe: Settings = session.settings().clone();
    probe.set(parameter, &values.join(", "))?;
    entry.settings.push((parameter.to_owned(), values.join(", ")));
    Ok(())
}

/// Names that users and groups can have.
pub(super) fn check_name(name: &str) -> Result<()> {
    const RESERVED: [&str; 3] = ["public", "rdsdb", "current_user"];
    if RESERVED.contains(&name) || name.is_empty() || name.starts_with("pg_") {
        let message = format!("name \"{name}\" is reserved");
        return Err(Error::statement(code::RESERVED_NAME, message));
    }
    if name.len() > NAME_BYTES_MAX {
        let message = format!("name \"{name}\" is longer than {NAME_BYTES_MAX} bytes");
        return Err(Error::statement("42622", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_follow_the_documented_rules() {
        check_password("ann", "Correct7Horse").unwrap();
        for bad in [
            "short1A",
            "alllowercase1",
            "ALLUPPERCASE1",
            "NoDigitsHere",
            "With Space1x",
            "With/Slash1x",
            "md5153c434b4b77c89e6b94f12c5393af5b",
            "sha256|Mypassword1|abc",
        ] {
            let error = check_password("ann", bad).unwrap_err();
            assert!(!error.to_string().contains(bad), "{error}");
        }
        assert!(check_password("Correct7horse", "Correct7Horse").is_err());
    }

    #[test]
    fn moments_are_read_in_the_zone_of_the_session() {
        let utc = |text| moment(text, Tz::UTC).unwrap();
        assert_eq!(utc("infinity"), None);
        assert_eq!(utc("1970-01-02"), Some(86_400_000_000));
        assert_eq!(utc("1970-01-01 00:00:01"), Some(1_000_000));
        assert_eq!(utc("1970-01-01 01:00:00+01"), Some(0));
        let berlin = moment("1970-01-01 01:00", Tz::Europe__Berlin).unwrap();
        assert_eq!(berlin, Some(0));
        assert!(moment("tomorrow", Tz::UTC).is_err());
    }
}
