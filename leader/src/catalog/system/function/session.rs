//! Functions that reach into sessions and queries: they act, and are evaluated once for each row.

use datafusion::error::Result;
use sql::error::raise;
use wlm::{Priority, PriorityScope, QueryId, SessionId, UserId};

use super::Argument::{Int, Text};
use super::{SystemFunction, acting, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;
use crate::engine::Engine;
use crate::error::{Error, code};
use crate::pgwire::report::Report;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    acting("pg_cancel_backend", &[&[Int]], Kind::Int4, pg_cancel_backend),
    acting("pg_terminate_backend", &[&[Int]], Kind::Int4, pg_terminate_backend),
    strict("pg_last_query_id", &[&[]], Kind::Int4, pg_last_query_id),
    acting("change_query_priority", &[&[Int, Text]], Kind::Text, change_query_priority),
    acting("change_session_priority", &[&[Int, Text]], Kind::Text, change_session_priority),
    acting("change_user_priority", &[&[Text, Text]], Kind::Text, change_user_priority),
];

fn running_server(catalog: &SystemCatalog) -> Result<&Engine> {
    let server = catalog.live();
    server.ok_or_else(|| raise(code::INTERNAL_ERROR, "there is no server".to_owned()))
}

/// An error of the server as one of a function.
fn of_server(error: Error) -> datafusion::error::DataFusionError {
    let report = Report::from(error);
    raise(&report.sqlstate, report.message)
}

/// The session that an argument names. Only a superuser reaches into sessions of others.
fn reached(catalog: &SystemCatalog, arguments: &[Value]) -> Result<i32> {
    let process_id = arguments[0].as_int().and_then(|number| i32::try_from(number).ok());
    let process_id = process_id.unwrap_or(0);
    let user = catalog.user_oid(&catalog.session.current_user);
    crate::statement::check_right(
        running_server(catalog)?,
        user,
        catalog.is_superuser(),
        process_id,
    )
    .map_err(of_server)?;
    Ok(process_id)
}

/// 1 if there is such a session: whatever it ran is cancelled.
fn pg_cancel_backend(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let process_id = reached(catalog, arguments)?;
    let found = running_server(catalog)?.registry.cancel(process_id, None);
    Ok(i32::from(found).into())
}

/// 1 if there is such a session: it ends.
fn pg_terminate_backend(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let process_id = reached(catalog, arguments)?;
    let found = running_server(catalog)?.registry.terminate(process_id);
    Ok(i32::from(found).into())
}

/// The number of the session's last query, -1 before its first.
fn pg_last_query_id(catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    let last = running_server(catalog)?.activity.last_query(catalog.session.backend_pid);
    Ok(last.map_or(Value::Int(-1), |query| query.0.into()))
}

fn change_query_priority(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let query = arguments[0].as_int().and_then(|number| u64::try_from(number).ok());
    let scope = PriorityScope::Query(QueryId(query.unwrap_or(0)));
    change(catalog, scope, "query", &arguments[1])
}

fn change_session_priority(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let session = arguments[0].as_int().and_then(|number| i32::try_from(number).ok());
    let known = session
        .filter(|pid| catalog.live().is_some_and(|live| live.activity.session(*pid).is_some()));
    let Some(process_id) = known else {
        return Err(raise(code::UNDEFINED_OBJECT, "there is no such session".to_owned()));
    };
    let scope = PriorityScope::Session(SessionId(process_id.cast_unsigned()));
    change(catalog, scope, "session", &arguments[1])
}

fn change_user_priority(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let name = arguments[0].as_text().unwrap_or_default();
    let Some(user) = catalog.snapshot.user(name) else {
        return Err(raise(code::UNDEFINED_OBJECT, format!("user \"{name}\" does not exist")));
    };
    change(catalog, PriorityScope::User(UserId(user.oid)), "user", &arguments[1])
}

/// Changes a priority; `RESET` goes back to the queue's.
fn change(
    catalog: &SystemCatalog,
    scope: PriorityScope,
    what: &str,
    asked: &Value,
) -> Result<Value> {
    if !catalog.is_superuser() {
        let message = "must be superuser to change priorities".to_owned();
        return Err(raise(code::INSUFFICIENT_PRIVILEGE, message));
    }
    let name = asked.as_text().unwrap_or_default();
    let priority = if name.eq_ignore_ascii_case("reset") {
        None
    } else if name.eq_ignore_ascii_case("critical") {
        Some(Priority::Critical)
    } else {
        let known = Priority::parse(name);
        if known.is_none() {
            let message = format!("invalid priority \"{name}\"");
            return Err(raise(code::INVALID_PARAMETER_VALUE, message));
        }
        known
    };
    let changed = running_server(catalog)?.workload.set_priority(scope, priority);
    let (from, to) = changed.map_err(of_server)?;
    let shown = |priority: Option<Priority>| priority.map_or("the queue's", Priority::name);
    Ok(format!(
        "Succeeded to change {what} priority. Priority changed from {} to {}.",
        shown(from),
        shown(to)
    )
    .into())
}
