//! The simple query protocol: one string, any number of statements, run and answered one by one.
//!
//! Each statement's answer is sent before the next statement starts. The string is one implicit
//! transaction unless it says otherwise; an error ends it, and the statements after it do not run.

use crate::pgwire::backend::{ImplicitExtent, Outcome, WireSession};
use crate::pgwire::connection::{Connection, Failure};
use crate::pgwire::message::{self, Format};
use crate::pgwire::result::{self, RowLimit, Served};

impl<S: WireSession> Connection<S> {
    /// Answers a Query message, up to and with ReadyForQuery.
    pub(crate) async fn query(&mut self, text: &str) -> Result<(), Failure> {
        // As in Postgres, a simple query ends the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.session.parse(text).await?;
        let Some((last, others)) = statements.split_last() else {
            message::frame(&mut self.writer.buffer, b'I', |_| {});
            return self.ready_for_query().await;
        };
        let extent = if others.is_empty() { ImplicitExtent::One } else { ImplicitExtent::Several };
        for statement in others {
            self.session.begin_implicit(extent).await?;
            let served = self.run_simple(statement).await?;
            self.put_served(&served);
        }
        self.session.begin_implicit(extent).await?;
        let served = self.run_simple(last).await?;
        // The last statement is complete only when its transaction is.
        self.session.end_implicit(Outcome::Commit).await?;
        self.put_served(&served);
        self.ready_for_query().await
    }

    async fn run_simple(&mut self, statement: &S::Statement) -> Result<Served, Failure> {
        let attendance = self.registration.attend(self.session.timeouts().statement);
        let started = self.start(statement, Vec::new(), &attendance).await?;
        match started {
            result::Started::Done(served) => Ok(served),
            result::Started::Rows { schema, stream, tag } => {
                result::put_row_description(&mut self.writer.buffer, &schema, &[])?;
                let formats = vec![Format::Text; schema.fields().len()];
                let mut delivery = self.delivery(&schema, formats, stream, tag)?;
                self.deliver(&mut delivery, RowLimit::None, &attendance).await
            }
        }
    }
}
