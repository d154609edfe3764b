//! The extended query protocol: prepared statements and portals.
//!
//! Between two Syncs all is one implicit transaction. Nothing is sent before Sync or Flush but what
//! does not fit the buffer. A portal holds its stream and its unsent rows between two Executes, and
//! ends with its transaction.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::BufMut;
use datafusion::scalar::ScalarValue;

use crate::pgwire::backend::{ImplicitExtent, Outcome, TransactionStatus, WireSession};
use crate::pgwire::connection::{Connection, Failure};
use crate::pgwire::decode;
use crate::pgwire::message::{self, Bind, Format, Target};
use crate::pgwire::report::{Report, sqlstate};
use crate::pgwire::result::{self, Delivery, RowLimit, Served, Started};
use crate::pgwire::types::{self, WireType};

/// The result of a Parse.
pub(crate) struct PreparedStatement<S> {
    /// `None` for an empty text.
    statement: Option<S>,
    /// As declared by the client, else as inferred.
    parameter_oids: Vec<u32>,
    parameter_types: Vec<DataType>,
    fields: Option<SchemaRef>,
}

/// The result of a Bind.
pub(crate) struct Portal<S> {
    prepared: Arc<PreparedStatement<S>>,
    formats: Vec<Format>,
    state: PortalState,
}

enum PortalState {
    /// Not executed yet.
    Bound(Vec<ScalarValue>),
    /// Executed with a limit of rows that was reached.
    Suspended(Box<Delivery>),
    /// Gave all its rows; another Execute gives none.
    Exhausted(String),
    /// Was a command, which cannot be run twice.
    Spent,
}

impl<S: WireSession> Connection<S> {
    /// Answers a Parse message.
    pub(crate) async fn parse(
        &mut self,
        name: String,
        text: &str,
        declared_oids: Vec<u32>,
    ) -> Result<(), Failure> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) {
            return Err(Report::error(
                sqlstate::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        } else if self.statements.len() >= self.settings.statements_max {
            return Err(Report::error(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                "too many prepared statements in this session",
            )
            .with_hint("Close or DEALLOCATE those that are no longer needed.")
            .into());
        }
        let declared = declared_oids
            .iter()
            .map(|oid| types::declared_type(*oid))
            .collect::<Result<Vec<_>, Report>>()?;
        let prepared = self.session.prepare(text, &declared).await?;
        let parameter_oids = prepared
            .parameters
            .iter()
            .enumerate()
            .map(|(index, inferred)| match declared_oids.get(index) {
                Some(oid) if !types::is_unknown(*oid) => *oid,
                _ => WireType::of_data_type(inferred).oid,
            })
            .collect();
        let statement = PreparedStatement {
            statement: prepared.statement,
            parameter_oids,
            parameter_types: prepared.parameters,
            fields: prepared.fields,
        };
        self.statements.insert(name, Arc::new(statement));
        message::frame(&mut self.writer.buffer, b'1', |_| {});
        Ok(())
    }

    /// Answers a Bind message.
    pub(crate) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let prepared = self.statement(&bind.statement)?;
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) {
            return Err(Report::error(
                sqlstate::DUPLICATE_CURSOR,
                format!("portal \"{}\" already exists", bind.portal),
            )
            .into());
        } else if self.portals.len() >= self.settings.portals_max {
            return Err(Report::error(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                "too many portals in this session",
            )
            .into());
        }
        let parameters = self.decode_parameters(&bind, &prepared)?;
        let columns = prepared.fields.as_ref().map_or(0, |schema| schema.fields().len());
        // Formats of a statement without columns are of no consequence, as in Postgres.
        let formats = if columns == 0 {
            Vec::new()
        } else {
            bind.result_formats.expand(columns, "result")?
        };
        let state = PortalState::Bound(parameters);
        self.portals.insert(bind.portal, Portal { prepared, formats, state });
        message::frame(&mut self.writer.buffer, b'2', |_| {});
        Ok(())
    }

    fn decode_parameters(
        &self,
        bind: &Bind,
        prepared: &PreparedStatement<S::Statement>,
    ) -> Result<Vec<ScalarValue>, Report> {
        let expected = prepared.parameter_types.len();
        if bind.parameters.len() != expected {
            return Err(Report::error(
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires \
                     {expected}",
                    bind.parameters.len(),
                    bind.statement
                ),
            ));
        }
        let formats = bind.parameter_formats.expand(expected, "parameter")?;
        let zone = self.session.output_settings().time_zone;
        let mut parameters = Vec::with_capacity(expected);
        for (index, value) in bind.parameters.iter().enumerate() {
            let parameter = decode::Parameter {
                oid: prepared.parameter_oids[index],
                data_type: &prepared.parameter_types[index],
                format: formats[index],
                time_zone: zone,
                interval_is_12_bytes: self.interval_is_12_bytes,
            };
            parameters.push(match value {
                None => parameter.null()?,
                Some(bytes) => parameter.decode(bytes).map_err(|report| Report {
                    context: Some(format!("parameter ${}", index + 1)),
                    ..report
                })?,
            });
        }
        Ok(parameters)
    }

    /// Answers a Describe message.
    pub(crate) fn describe(&mut self, target: &Target) -> Result<(), Failure> {
        let (fields, formats) = match target {
            Target::Statement(name) => {
                let prepared = self.statement(name)?;
                let oids = &prepared.parameter_oids;
                // Bind can carry no more than this many either.
                let count = u16::try_from(oids.len()).map_err(|_| {
                    Report::error(
                        sqlstate::PROGRAM_LIMIT_EXCEEDED,
                        "a statement has too many parameters",
                    )
                })?;
                message::frame(&mut self.writer.buffer, b't', |out| {
                    out.put_u16(count);
                    for oid in oids {
                        out.put_u32(*oid);
                    }
                });
                (prepared.fields.clone(), Vec::new())
            }
            Target::Portal(name) => match self.portals.get(name) {
                Some(portal) => (portal.prepared.fields.clone(), portal.formats.clone()),
                None => {
                    let cursor = self.session.cursor_fields(name);
                    (Some(cursor.ok_or_else(|| no_portal(name))?), Vec::new())
                }
            },
        };
        match fields {
            Some(schema) => {
                result::put_row_description(&mut self.writer.buffer, &schema, &formats)?;
            }
            None => message::frame(&mut self.writer.buffer, b'n', |_| {}),
        }
        Ok(())
    }

    /// Answers an Execute message.
    pub(crate) async fn execute(&mut self, name: &str, max_rows: i32) -> Result<(), Failure> {
        let limit = RowLimit::from_wire(max_rows);
        // Taken out while it runs: a COMMIT inside ends all portals that are left.
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let before = self.session.transaction_status();
        let served = self.run_portal(&mut portal, name, limit).await?;
        self.put_served(&served);
        let ended = before != TransactionStatus::Idle
            && self.session.transaction_status() == TransactionStatus::Idle;
        if ended {
            self.portals.clear();
        } else {
            self.portals.insert(name.to_owned(), portal);
        }
        Ok(())
    }

    async fn run_portal(
        &mut self,
        portal: &mut Portal<S::Statement>,
        name: &str,
        limit: RowLimit,
    ) -> Result<Served, Failure> {
        let attendance = self.registration.attend(self.session.timeouts().statement);
        let mut delivery = match std::mem::replace(&mut portal.state, PortalState::Spent) {
            PortalState::Suspended(delivery) => delivery,
            PortalState::Exhausted(tag) => {
                portal.state = PortalState::Exhausted(tag.clone());
                return Ok(Served::Complete(tag));
            }
            PortalState::Spent => {
                return Err(Report::error(
                    sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
            PortalState::Bound(parameters) => {
                let Some(statement) = &portal.prepared.statement else {
                    return Ok(Served::Empty);
                };
                // Clients send Sync with the statement, unless others follow.
                let is_last = self.reader.next_tag() == Some(b'S');
                let extent = if is_last { ImplicitExtent::One } else { ImplicitExtent::Open };
                self.session.begin_implicit(extent).await?;
                match self.start(statement, parameters, &attendance).await? {
                    Started::Done(served) => return Ok(served),
                    Started::Rows { schema, stream, tag } => {
                        require_described(portal.prepared.fields.as_deref(), &schema)?;
                        let formats = portal.formats.clone();
                        Box::new(self.delivery(&schema, formats, stream, tag)?)
                    }
                }
            }
        };
        let served = self.deliver(&mut delivery, limit, &attendance).await?;
        portal.state = match &served {
            Served::Suspended => PortalState::Suspended(delivery),
            Served::Complete(_) | Served::Empty => PortalState::Exhausted(delivery.empty_tag()),
        };
        Ok(served)
    }

    /// Answers a Close message; what does not exist is closed already.
    pub(crate) fn close(&mut self, target: &Target) {
        match target {
            Target::Statement(name) => drop(self.statements.remove(name)),
            Target::Portal(name) => drop(self.portals.remove(name)),
        }
        message::frame(&mut self.writer.buffer, b'3', |_| {});
    }

    /// Answers a Sync message: ends the implicit transaction and any error recovery.
    pub(crate) async fn sync(&mut self) -> Result<(), Failure> {
        self.skips_to_sync = false;
        // Streams of the transaction must be gone before it ends.
        if self.session.transaction_status() == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.session.end_implicit(Outcome::Commit).await?;
        self.ready_for_query().await
    }

    fn statement(&self, name: &str) -> Result<Arc<PreparedStatement<S::Statement>>, Report> {
        self.statements.get(name).map(Arc::clone).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            Report::error(sqlstate::INVALID_SQL_STATEMENT_NAME, message)
        })
    }
}

fn no_portal(name: &str) -> Report {
    Report::error(sqlstate::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

/// The client decodes rows by what it was told when it described the statement, and takes them for
/// the columns of those names.
fn require_described(described: Option<&Schema>, schema: &Schema) -> Result<(), Report> {
    let is_as_told = |described: &Schema| {
        let (told, new) = (described.fields(), schema.fields());
        let mut both = told.iter().zip(new);
        let is_alike = both.all(|(told, new)| {
            told.name() == new.name() && WireType::of_field(told).oid == WireType::of_field(new).oid
        });
        told.len() == new.len() && is_alike
    };
    if described.is_some_and(is_as_told) {
        return Ok(());
    }
    Err(Report::error(sqlstate::FEATURE_NOT_SUPPORTED, "cached plan must not change result type")
        .with_hint("Prepare the statement again."))
}
