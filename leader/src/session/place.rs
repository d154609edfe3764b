//! The session in workload management: what a statement's work runs in, and what is known of the
//! session there.

use std::sync::{Arc, Weak};
use std::time::Duration;

use storage::ids::Xid;
use wlm::{Identity, PlanFeatures, QueryKind, Request, SessionId, Time, UserId};

use super::Session;
use crate::activity::{StatementGuard, StatementRow, cut};
use crate::engine::DATABASE;
use crate::error::Result;
use crate::pgwire::backend::CancelHandle;
use crate::workload::{Admission, Claim, Seat};

/// What `query_group` says if it was not set.
const NO_QUERY_GROUP: &str = "default";

/// How long a query waits in line before it looks whether it waits in vain, and how often then.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The statement that runs now.
#[derive(Default)]
pub(super) struct Current {
    guard: Option<Arc<StatementGuard>>,
    cancel: CancelHandle,
    started_us: i64,
}

/// Places whose rows are still open.
#[derive(Default)]
pub(super) struct Claims(Vec<Weak<Claim>>);

impl Session {
    /// A statement begins; it ends when the guard and all of its work have gone.
    pub(super) fn begin_statement(
        &mut self,
        text: &str,
        cancel: &CancelHandle,
    ) -> Arc<StatementGuard> {
        let started_us = (self.clock)().timestamp_micros();
        let guard = self.engine.activity.begin(StatementRow {
            process_id: self.process_id,
            user: self.user_oid,
            user_name: self.user.clone(),
            database: DATABASE.to_owned(),
            xid: self.xid(),
            label: self.settings.show("query_group").unwrap_or(NO_QUERY_GROUP).to_owned(),
            text: cut(text),
            started_us,
            ended_us: None,
            query: None,
            aborted: true,
        });
        self.current =
            Current { guard: Some(Arc::clone(&guard)), cancel: cancel.clone(), started_us };
        guard
    }

    /// The statement has been answered; its rows may still be on their way.
    pub(super) fn end_statement(&mut self) {
        self.current = Current::default();
    }

    /// A place for work of the current statement. Waits for it, unless the leader does the work
    /// alone, or rows of an earlier query of this session are still open: then in its place.
    pub async fn seat(
        &mut self,
        kind: QueryKind,
        features: PlanFeatures,
    ) -> Result<(Seat, Option<Arc<Claim>>)> {
        let guard = self.current.guard.clone();
        let workload = Arc::clone(&self.engine.workload);
        if !kind.is_managed() {
            let seat = Seat::unmanaged(workload.leader_memory().clone(), guard);
            return Ok((seat, None));
        }
        let shared = self.claims.shared();
        let (admission, query) = match shared {
            Some(admission) => (admission, workload.new_query()),
            None => {
                let admission = Arc::new(self.admit(kind, features).await?);
                let query = admission.query();
                (admission, query)
            }
        };
        self.current.cancel.set_query(query.0);
        if let Some(guard) = &guard {
            guard.set_query(query);
        }
        let (seat, claim) = Seat::managed(admission, guard);
        self.claims.0.push(Arc::downgrade(&claim));
        Ok((seat, Some(claim)))
    }

    /// Waits in line, unless that would be for ever: because of locks of this transaction.
    async fn admit(&self, kind: QueryKind, features: PlanFeatures) -> Result<Admission> {
        let workload = Arc::clone(&self.engine.workload);
        let mut admission = std::pin::pin!(workload.admit(self.request(kind, features)));
        loop {
            match tokio::time::timeout(DEADLOCK_TIMEOUT, &mut admission).await {
                Ok(admitted) => return admitted,
                Err(_) => {
                    let (locks, xid) = (self.engine.transactions.locks(), Xid(self.xid()));
                    if locks.has(xid) {
                        locks.refuse_stuck(xid, &workload.place_waits())?;
                    }
                }
            }
        }
    }

    fn request(&self, kind: QueryKind, features: PlanFeatures) -> Request {
        let snapshot = self.engine.transactions.snapshot();
        let user = snapshot.user_by_oid(self.user_oid);
        let identity = Identity {
            groups: snapshot.groups_of(self.user_oid).map(|group| group.name.clone()).collect(),
            roles: snapshot.roles_of(self.user_oid).iter().map(|role| role.name.clone()).collect(),
            is_superuser: user.is_some_and(|user| user.superuser),
        };
        let group = self.settings.show("query_group").unwrap_or(NO_QUERY_GROUP);
        let slots = self.settings.show("wlm_query_slot_count");
        Request {
            user: UserId(self.user_oid),
            session: SessionId(self.process_id.cast_unsigned()),
            xid: self.xid(),
            identity: Arc::new(identity),
            query_group: (group != NO_QUERY_GROUP).then(|| Arc::from(group)),
            kind,
            slot_count: slots.ok().and_then(|text| text.parse().ok()).unwrap_or(1),
            statement_started: Time(u64::try_from(self.current.started_us).unwrap_or(0)),
            // The wire keeps the clock of a statement, from its text to its last row.
            statement_timeout: None::<Duration>,
            features,
        }
    }
}

impl Claims {
    /// The place of rows that are still open. Its query can no longer be restarted: what shares
    /// its place would be lost.
    fn shared(&mut self) -> Option<Arc<Admission>> {
        self.0.retain(|claim| claim.strong_count() > 0);
        let open = self.0.iter().filter_map(|claim| claim.upgrade()?.admission());
        open.into_iter().find(|admission| admission.begin_returning())
    }
}
