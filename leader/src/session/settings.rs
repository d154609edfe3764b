//! Session parameters: SET, SHOW and RESET, and what ParameterStatus reports.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use sql::statement::IsolationLevel;

use crate::error::{Error, Result, code};

/// What a parameter's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any text.
    Text,
    /// on, off, true, false, yes, no, 1, 0.
    Bool,
    /// A whole number in the range, both ends included.
    Integer(i64, i64),
    /// An IANA time zone or an offset.
    TimeZone,
    /// One of the words, compared without case.
    Words(&'static [&'static str]),
    /// The name of an isolation level.
    Isolation,
    /// May be shown but not set.
    Fixed,
}

/// A known parameter.
#[derive(Debug)]
struct Parameter {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// The name under which ParameterStatus reports it, if it does.
    reported: Option<&'static str>,
    /// Whether it changes anything here; SET of one that does not says so.
    effective: bool,
}

const fn parameter(name: &'static str, default: &'static str, kind: Kind) -> Parameter {
    Parameter { name, default, kind, reported: None, effective: true }
}

const fn reported(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    status: &'static str,
) -> Parameter {
    Parameter { name, default, kind, reported: Some(status), effective: true }
}

const fn accepted(name: &'static str, default: &'static str, kind: Kind) -> Parameter {
    Parameter { name, default, kind, reported: None, effective: false }
}

/// The `version()` of the Redshift release whose surface this follows begins so.
pub const SERVER_VERSION: &str = "8.0.2";

/// The level of the transaction in progress; it is set as by SET TRANSACTION.
pub const ISOLATION: &str = "transaction_isolation";
/// The level of transactions that begin and say nothing of it.
pub const DEFAULT_ISOLATION: &str = "default_transaction_isolation";
/// Whether transactions that begin may only read.
pub const READ_ONLY: &str = "transaction_read_only";

/// Whether UPDATE ... FROM fails if a row of the target matches several rows.
const NONDETERMINISTIC_UPDATE: &str = "error_on_nondeterministic_update";

const LEVELS: &[(&str, IsolationLevel)] = &[
    ("serializable", IsolationLevel::Serializable),
    ("snapshot", IsolationLevel::Snapshot),
    ("repeatable read", IsolationLevel::RepeatableRead),
    ("read committed", IsolationLevel::ReadCommitted),
    ("read uncommitted", IsolationLevel::ReadUncommitted),
];

const PARAMETERS: &[Parameter] = &[
    reported("application_name", "", Kind::Text, "application_name"),
    reported("client_encoding", "UTF8", Kind::Text, "client_encoding"),
    accepted("client_min_messages", "notice", Kind::Text),
    reported("datestyle", "ISO, MDY", Kind::Text, "DateStyle"),
    accepted("describe_field_name_in_uppercase", "off", Kind::Bool),
    accepted("enable_case_sensitive_identifier", "false", Kind::Bool),
    accepted("enable_result_cache_for_session", "on", Kind::Bool),
    accepted("extra_float_digits", "0", Kind::Integer(-15, 3)),
    accepted("analyze_threshold_percent", "10", Kind::Integer(0, 100)),
    parameter(NONDETERMINISTIC_UPDATE, "off", Kind::Bool),
    parameter("idle_in_transaction_session_timeout", "0", Kind::Integer(0, i32::MAX as i64)),
    parameter("idle_session_timeout", "0", Kind::Integer(0, i32::MAX as i64)),
    reported("integer_datetimes", "on", Kind::Fixed, "integer_datetimes"),
    reported("intervalstyle", "postgres", Kind::Text, "IntervalStyle"),
    parameter("query_group", "default", Kind::Text),
    parameter("search_path", "$user, public", Kind::Text),
    parameter("max_identifier_length", "127", Kind::Fixed),
    parameter("max_index_keys", "32", Kind::Fixed),
    reported("server_encoding", "UTF8", Kind::Fixed, "server_encoding"),
    reported("server_version", SERVER_VERSION, Kind::Fixed, "server_version"),
    parameter("server_version_num", "80002", Kind::Fixed),
    reported(
        "standard_conforming_strings",
        "on",
        Kind::Words(&["on"]),
        "standard_conforming_strings",
    ),
    parameter("statement_timeout", "0", Kind::Integer(0, i32::MAX as i64)),
    reported("timezone", "UTC", Kind::TimeZone, "TimeZone"),
    parameter(DEFAULT_ISOLATION, "snapshot", Kind::Isolation),
    parameter(ISOLATION, "snapshot", Kind::Isolation),
    parameter(READ_ONLY, "off", Kind::Bool),
    parameter("wlm_query_slot_count", "1", Kind::Integer(1, 50)),
];

/// What a SET did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetEffect {
    /// It holds from now on.
    Applied,
    /// The value is kept and shown, but nothing here depends on it.
    NoEffect,
}

/// The parameters of a session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What the session starts with and RESET goes back to.
    initial: BTreeMap<String, String>,
    current: BTreeMap<String, String>,
    /// What holds where nothing was set.
    noted: BTreeMap<&'static str, &'static str>,
}

/// What pg_settings tells of a parameter.
#[derive(Debug)]
pub struct Description {
    /// Its value in a new session.
    pub default: &'static str,
    /// Who may change it: `user`, or nobody: `internal`.
    pub context: &'static str,
    /// The type of its value, as Postgres names it.
    pub vartype: &'static str,
    /// The unit of a number.
    pub unit: Option<&'static str>,
    /// The least value of a number.
    pub min: Option<String>,
    /// The greatest value of a number.
    pub max: Option<String>,
}

/// The description of a known parameter.
pub fn description(name: &str) -> Option<Description> {
    let parameter = find(name)?;
    let (vartype, min, max) = match parameter.kind {
        Kind::Text | Kind::TimeZone | Kind::Fixed => ("string", None, None),
        Kind::Bool => ("bool", None, None),
        Kind::Integer(low, high) => ("integer", Some(low.to_string()), Some(high.to_string())),
        Kind::Words(_) | Kind::Isolation => ("enum", None, None),
    };
    Some(Description {
        default: parameter.default,
        context: if parameter.kind == Kind::Fixed { "internal" } else { "user" },
        vartype,
        unit: parameter.name.ends_with("_timeout").then_some("ms"),
        min,
        max,
    })
}

fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

impl Settings {
    /// Sets what a startup packet or the server's configuration gives: also RESET's target.
    pub fn set_initial(&mut self, name: &str, value: &str) -> Result<SetEffect> {
        // There is no transaction yet, but there will be.
        let name = if is_transaction_isolation(name) { DEFAULT_ISOLATION } else { name };
        let effect = self.set(name, value)?;
        let name = name.to_ascii_lowercase();
        if let Some(value) = self.current.get(&name) {
            self.initial.insert(name, value.clone());
        }
        Ok(effect)
    }

    /// SET name TO value. Names of no known parameter are kept, because drivers set their own.
    pub fn set(&mut self, name: &str, value: &str) -> Result<SetEffect> {
        let name = canonical(name);
        let Some(parameter) = find(&name) else {
            self.current.insert(name, value.to_owned());
            return Ok(SetEffect::NoEffect);
        };
        let value = check(parameter, value)?;
        self.current.insert(name, value);
        Ok(if parameter.effective { SetEffect::Applied } else { SetEffect::NoEffect })
    }

    /// RESET name.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        let name = canonical(name);
        if find(&name).is_none() && !self.current.contains_key(&name) {
            return Err(unrecognized(&name));
        }
        match self.initial.get(&name) {
            Some(value) => self.current.insert(name, value.clone()),
            None => self.current.remove(&name),
        };
        Ok(())
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        self.current = self.initial.clone();
    }

    /// Takes a parameter back to what it was in `before`.
    pub fn restore(&mut self, name: &str, before: &Self) {
        let name = canonical(name);
        match before.current.get(&name) {
            Some(value) => self.current.insert(name, value.clone()),
            None => self.current.remove(&name),
        };
    }

    /// SHOW name.
    pub fn show(&self, name: &str) -> Result<&str> {
        let name = canonical(name);
        if let Some(value) = self.current.get(&name) {
            return Ok(value);
        }
        if let Some(value) = self.noted.get(name.as_str()) {
            return Ok(value);
        }
        find(&name).map(|parameter| parameter.default).ok_or_else(|| unrecognized(&name))
    }

    /// What a parameter is where it was not set, by the state of the server or of the session.
    pub fn note(&mut self, name: &'static str, value: &'static str) {
        self.noted.insert(name, value);
    }

    /// All parameters with their values, by name.
    pub fn all(&self) -> BTreeMap<&str, &str> {
        let known = PARAMETERS.iter().map(|parameter| (parameter.name, parameter.default));
        let noted = self.noted.iter().map(|(name, value)| (*name, *value));
        let set = self.current.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        known.chain(noted).chain(set).collect()
    }

    /// What ParameterStatus reports of the parameters.
    pub fn reported(&self) -> BTreeMap<&'static str, String> {
        let value = |parameter: &Parameter| {
            let current = self.current.get(parameter.name);
            current.map_or_else(|| parameter.default.to_owned(), Clone::clone)
        };
        PARAMETERS
            .iter()
            .filter_map(|parameter| Some((parameter.reported?, value(parameter))))
            .collect()
    }

    fn value(&self, name: &'static str) -> &str {
        self.show(name).unwrap_or_default()
    }

    /// The schemas of search_path; `$user` is the user's own.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        self.value("search_path")
            .split(',')
            .map(|part| part.trim().trim_matches('"').to_ascii_lowercase())
            .filter(|part| !part.is_empty())
            .map(|part| if part == "$user" { user.to_owned() } else { part })
            .collect()
    }

    /// The session's time zone.
    pub fn time_zone(&self) -> Tz {
        self.value("timezone").parse().unwrap_or(Tz::UTC)
    }

    /// A parameter in milliseconds; 0 is none.
    pub fn timeout(&self, name: &'static str) -> Option<Duration> {
        let milliseconds = self.value(name).parse().unwrap_or(0);
        (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
    }

    /// Whether new transactions may only read.
    pub fn read_only(&self) -> bool {
        self.value(READ_ONLY) == "on"
    }

    /// Whether a row may match only one row that it is updated from.
    pub fn refuses_nondeterministic_update(&self) -> bool {
        self.value(NONDETERMINISTIC_UPDATE) == "on"
    }

    /// The isolation level of new transactions.
    pub fn default_isolation(&self) -> &str {
        self.value(DEFAULT_ISOLATION)
    }
}

/// Whether the name is that of the parameter that is the transaction's and not the session's.
pub fn is_transaction_isolation(name: &str) -> bool {
    name.eq_ignore_ascii_case(ISOLATION)
}

/// Whether the name is that of the parameter which says whether a transaction may only read. In one it
/// is that transaction's.
pub fn is_read_only(name: &str) -> bool {
    name.eq_ignore_ascii_case(READ_ONLY)
}

/// What a value of that parameter stands for.
///
/// # Errors
/// If it is no Boolean.
pub fn read_only_of(value: &str) -> Result<bool> {
    Ok(check(&parameter(READ_ONLY, "off", Kind::Bool), value)? == "on")
}

/// The level that a value stands for.
///
/// # Errors
/// If it is none.
pub fn isolation_level(name: &str, value: &str) -> Result<IsolationLevel> {
    let lower = value.trim().to_ascii_lowercase();
    let level = LEVELS.iter().find(|(word, _)| *word == lower);
    let invalid = || {
        let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
        Error::statement(code::INVALID_PARAMETER_VALUE, message)
    };
    level.map(|(_, level)| *level).ok_or_else(invalid)
}

/// The one name of a parameter that has several.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "time zone" => "timezone".to_owned(),
        "default_transaction_read_only" | "readonly" => READ_ONLY.to_owned(),
        _ => name,
    }
}

fn unrecognized(name: &str) -> Error {
    let message = format!("unrecognized configuration parameter \"{name}\"");
    Error::statement(code::UNDEFINED_OBJECT, message)
}

fn invalid(parameter: &Parameter, value: &str) -> Error {
    let message = format!("invalid value for parameter \"{}\": \"{value}\"", parameter.name);
    Error::statement(code::INVALID_PARAMETER_VALUE, message)
}

fn check(parameter: &Parameter, value: &str) -> Result<String> {
    let lower = value.trim().to_ascii_lowercase();
    match parameter.kind {
        Kind::Text if parameter.name == "client_encoding" => {
            match lower.trim_matches('\'').replace('-', "").as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_owned()),
                _ => Err(invalid(parameter, value)),
            }
        }
        Kind::Text if parameter.name == "datestyle" => {
            if lower.starts_with("iso") || lower == "default" {
                Ok("ISO, MDY".to_owned())
            } else {
                Err(invalid(parameter, value).with_hint("Dates are sent in ISO form."))
            }
        }
        Kind::Text => Ok(value.to_owned()),
        Kind::Bool => match lower.as_str() {
            "on" | "true" | "yes" | "1" | "t" => Ok("on".to_owned()),
            "off" | "false" | "no" | "0" | "f" => Ok("off".to_owned()),
            _ => Err(invalid(parameter, value)),
        },
        Kind::Integer(low, high) => match lower.parse::<i64>() {
            Ok(number) if (low..=high).contains(&number) => Ok(number.to_string()),
            _ => Err(invalid(parameter, value)),
        },
        Kind::TimeZone => match value.trim().trim_matches('\'').parse::<Tz>() {
            Ok(zone) => Ok(zone.name().to_owned()),
            Err(_) => Err(invalid(parameter, value)),
        },
        Kind::Words(words) => match words.iter().find(|word| **word == lower) {
            Some(word) => Ok((*word).to_owned()),
            None => Err(invalid(parameter, value)),
        },
        Kind::Isolation => {
            isolation_level(parameter.name, value)?;
            Ok(lower)
        }
        Kind::Fixed => {
            let message = format!("parameter \"{}\" cannot be changed", parameter.name);
            Err(Error::statement("55P02", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_kept_and_reset() {
        let mut settings = Settings::default();
        assert_eq!(settings.show("search_path").unwrap(), "$user, public");
        settings.set_initial("statement_timeout", "1000").unwrap();
        settings.set("Statement_Timeout", "5").unwrap();
        assert_eq!(settings.timeout("statement_timeout"), Some(Duration::from_millis(5)));
        settings.reset("statement_timeout").unwrap();
        assert_eq!(settings.show("statement_timeout").unwrap(), "1000");
        assert!(settings.set("statement_timeout", "-1").is_err());
        assert!(settings.set("timezone", "Mars/Olympus").is_err());
        assert!(settings.show("nonsense").is_err());
        assert_eq!(settings.set("driver_toy", "7").unwrap(), SetEffect::NoEffect);
        assert_eq!(settings.show("driver_toy").unwrap(), "7");
    }

    #[test]
    fn the_search_path_names_the_user() {
        let mut settings = Settings::default();
        settings.set("search_path", "\"$user\", Sales").unwrap();
        assert_eq!(settings.search_path("ann"), ["ann", "sales"]);
    }
}
