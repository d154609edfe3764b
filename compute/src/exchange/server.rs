//! The answering side: a node's port.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::JoinSet;
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::logical_expr::ScalarUDF;
use datafusion_distributed::{
    ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey, Worker,
    WorkerQueryContext,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::http::HeaderMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status, Streaming};
use url::Url;
use uuid::Uuid;

use super::channel::NodeChannels;
use super::failure::to_status;
use super::frames::FrameWriter;
use super::messages::{Frame, Head, Measured, RowsOpen, TaskId, TaskOpen, TaskReply};
use super::rpc::ClusterService;
use super::session::Sessions;
use super::tasks::{Place, TaskState, Tasks};
use super::tls::Identity;
use super::{EPOCH_HEADER, MEMORY_HEADER};
use crate::codec::Site;
use crate::cpu_share::CpuShare;
use crate::error::Error;
use crate::memory::QueryMemory;
use crate::node::Node;
use crate::object_storage::ObjectStorage;
use crate::plan::guard::guard;
use crate::query_threads::{Pace, QueryThreads};
use crate::service::messages::{
    Action, ControlReply, ControlRequest, CopyReply, CopyRequest, FileOpen, FilePart,
};
use crate::service::{NodeService, copy_files, send_file};

/// Frames of a partition between the query and the connection.
const FRAMES_QUEUED_MAX: usize = 2;
/// How often what ended queries hold is let go.
const LET_GO_INTERVAL: Duration = Duration::from_millis(500);
/// How long the request for rows of a task may be earlier than the task.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// How often the leader hears what a task has done so far.
const MEASURED_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams on one connection: partitions of all queries of another node.
const STREAMS_MAX: u32 = 1 << 20;

/// What a server is made of.
pub struct ServerParts {
    /// The node that it serves.
    pub node: Arc<Node>,
    /// What loads read from.
    pub objects: Arc<ObjectStorage>,
    /// The way to the other nodes.
    pub channels: Arc<NodeChannels>,
    /// Where tasks run.
    pub threads: Arc<QueryThreads>,
    /// What plans may call beside [`sql::functions`].
    pub functions: Vec<Arc<ScalarUDF>>,
}

/// Executes tasks of plans on a node, and answers its leader.
pub struct NodeServer {
    worker: Worker,
    node: Arc<Node>,
    tasks: Arc<Tasks>,
    service: Arc<NodeService>,
    channels: Arc<NodeChannels>,
    threads: Arc<QueryThreads>,
}

impl NodeServer {
    /// A server that has heard from no leader yet.
    pub fn new(parts: ServerParts) -> Arc<Self> {
        let tasks = Arc::<Tasks>::default();
        let site = Site { node: Arc::clone(&parts.node), objects: parts.objects };
        let channels = parts.channels;
        let sessions =
            Sessions::new(site, Arc::clone(&channels), Arc::clone(&tasks), parts.functions);
        let sessions = Arc::new(sessions);
        let worker = Worker::from_session_builder(move |context: WorkerQueryContext| {
            let sessions = Arc::clone(&sessions);
            async move { sessions.open(context) }
        })
        .with_runtime_env(parts.node.runtime_env());
        let node = Arc::clone(&parts.node);
        let service = Arc::new(NodeService::new(parts.node, Arc::clone(&tasks)));
        Arc::new(Self { worker, node, tasks, service, channels, threads: parts.threads })
    }

    /// Serves until `stop` is ready.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        identity: &Identity,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut letting_go = JoinSet::new();
        let letting = let_go(self.worker.clone(), Arc::clone(&self.tasks));
        letting_go.spawn_on(letting, &self.threads.handle(Pace::Quick));
        Server::builder()
            .tls_config(identity.server())
            .map_err(Error::ClusterPort)?
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .add_service(ClusterService(self))
            .serve_with_incoming_shutdown(incoming, stop)
            .await
            .map_err(Error::ClusterPort)
    }

    /// Takes the plan of a task and holds it until the leader closes the channel.
    pub(super) async fn task(
        self: Arc<Self>,
        request: Request<Streaming<TaskOpen>>,
    ) -> Result<BoxStream<'static, Result<TaskReply, Status>>, Status> {
        let (metadata, _, mut incoming) = request.into_parts();
        let mut headers = metadata.into_headers();
        let epoch = headers.get(EPOCH_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let open = incoming.message().await?;
        let open = open.ok_or_else(|| Status::invalid_argument("a task without a plan"))?;
        let (cpu_share, pace) = (open.cpu_share, Pace::from_number(open.pace));
        let request = set_plan(open).map_err(|error| to_status(&error))?;
        let place = self.place(&headers, request.task_key.query_id, cpu_share, pace);
        let place = place.map_err(|error| to_status(&error))?;
        let task = self.tasks.open(request.task_key, &mut headers, Arc::clone(&place));
        let state = Arc::clone(task.state());
        // Checked once the task can be ended: a leader that takes over ends all that it finds.
        self.service.check_epoch(epoch).map_err(|error| to_status(&error))?;
        let (closing, closed) = oneshot::channel::<Option<Measured>>();
        let of_query = Arc::clone(&place);
        // Whatever ends this stream, the query has ended: the leader closes it, or is gone.
        let rest = futures::stream::once(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(cpu_share) = &of_query.cpu_share
                    && message.cpu_share > 0
                {
                    cpu_share.set(message.cpu_share);
                }
            }
            // The leader may be gone: then nobody wants to know.
            let _ = closing.send(task.state().measured());
            drop(task);
        });
        let rest = rest.filter_map(|()| futures::future::ready(None)).boxed();
        let worker = self.worker.clone();
        let mut opening = JoinSet::new();
        let opened = async move { worker.coordinator_channel(headers, request, rest).await };
        in_place(&place, || opening.spawn_on(opened, &self.threads.handle(pace)));
        let replies = match opening.join_next().await {
            Some(Ok(replies)) => replies.map_err(|error| to_status(&error))?,
            Some(Err(error)) => return Err(Status::internal(error.to_string())),
            None => return Err(Status::internal("a task was not opened")),
        };
        // The library's replies say nothing that is sent on; the channel stays until the query has
        // ended, and what was measured is the last word.
        let words = Words { state, closed: Some(closed), _replies: replies };
        let words = futures::stream::unfold(words, Words::next);
        Ok(words.map(|measured| Ok(TaskReply { measured: Some(measured) })).boxed())
    }

    /// What the leader has granted to the query of a task.
    fn place(
        &self,
        headers: &HeaderMap,
        query: Uuid,
        cpu_share: u32,
        pace: Pace,
    ) -> Result<Arc<Place>> {
        let bytes = match headers.get(MEMORY_HEADER) {
            None => None,
            Some(value) => match value.to_str().ok().and_then(|text| text.parse().ok()) {
                Some(bytes) => Some(bytes),
                None => return internal_err!("a grant of memory is not a number"),
            },
        };
        self.tasks.share_place(query, || {
            let memory = bytes.map(|bytes| QueryMemory::new(&self.node.runtime_env(), bytes));
            let cpu_share = (cpu_share > 0).then(|| CpuShare::new(cpu_share, pace));
            Ok(Place { memory: memory.transpose()?, cpu_share })
        })
    }

    /// Starts a partition of a task, as soon as the task is there.
    pub(super) fn rows(
        self: Arc<Self>,
        open: RowsOpen,
    ) -> Result<BoxStream<'static, Result<Frame, Status>>, Status> {
        let request = execute_task(open).map_err(|error| to_status(&error))?;
        let (sender, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        let mut tasks = JoinSet::new();
        let threads = self.threads.handle(Pace::Quick);
        tasks.spawn_on(
            async move {
                if let Err(error) = self.send_from_place(request, sender.clone()).await {
                    // Nobody may be there any more to hear it.
                    let _ = sender.send(Err(to_status(&error))).await;
                }
            },
            &threads,
        );
        // The set goes with the stream, and the task with the set.
        let frames =
            futures::stream::unfold((receiver, tasks), |(mut receiver, tasks)| async move {
                let frame = receiver.recv().await?;
                Some((frame, (receiver, tasks)))
            });
        Ok(frames.boxed())
    }

    /// Sends a partition from where its query runs, which the task says: the request for its rows may
    /// come before it.
    async fn send_from_place(
        &self,
        request: ExecuteTaskRequest,
        sender: mpsc::Sender<Result<Frame, Status>>,
    ) -> Result<()> {
        let opened = self.tasks.named(&request.task_key);
        let Ok(task) = tokio::time::timeout(OPENED_WITHIN, opened).await else {
            return internal_err!("rows are asked for of a task that is not opened");
        };
        let place = Arc::clone(&task.place);
        drop(task);
        let worker = self.worker.clone();
        let sending = async move { send_rows(&worker, request, &sender).await };
        let threads = self.threads.handle(place.pace());
        let mut tasks = JoinSet::new();
        // The set goes with this future, and the task with the set.
        in_place(&place, || tasks.spawn_on(sending, &threads));
        match tasks.join_next().await {
            Some(Ok(sent)) => sent,
            Some(Err(error)) => internal_err!("a partition was not sent: {error}"),
            None => internal_err!("a partition was not sent"),
        }
    }

    /// Does what the leader says.
    pub(super) async fn control(
        self: Arc<Self>,
        request: ControlRequest,
    ) -> Result<ControlReply, Status> {
        if let Some(Action::Heartbeat(_)) = request.action {
            // It touches no file, and must not wait behind those that do.
            return Ok(self.service.answer(request));
        }
        let mut tasks = JoinSet::new();
        let node = Arc::clone(&self);
        let threads = self.threads.handle(Pace::Quick);
        tasks.spawn_blocking_on(move || node.service.answer(request), &threads);
        match tasks.join_next().await {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(error)) => Err(Status::internal(error.to_string())),
            None => Err(Status::internal("a request was not answered")),
        }
    }

    /// Copies segments from another node.
    pub(super) async fn copy(self: Arc<Self>, request: CopyRequest) -> Result<CopyReply, Status> {
        let mut tasks = JoinSet::new();
        let (service, channels) = (Arc::clone(&self.service), Arc::clone(&self.channels));
        // The set goes with the request, and the task with the set.
        // A commit may wait for it.
        let threads = self.threads.handle(Pace::Quick);
        tasks.spawn_on(copy_files(service, channels, request), &threads);
        match tasks.join_next().await {
            Some(Ok(Ok(()))) => Ok(CopyReply {}),
            Some(Ok(Err(error))) => Err(to_status(&error)),
            Some(Err(error)) => Err(Status::internal(error.to_string())),
            None => Err(Status::internal("a copy was not begun")),
        }
    }

    /// Sends the file of a segment.
    pub(super) fn file(
        self: Arc<Self>,
        open: FileOpen,
    ) -> BoxStream<'static, Result<FilePart, Status>> {
        let (sender, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        let mut tasks = JoinSet::new();
        let service = Arc::clone(&self.service);
        let sending = move || send_file(&service, open, |error| to_status(&error), &sender);
        // A commit of another node may wait for it.
        tasks.spawn_blocking_on(sending, &self.threads.handle(Pace::Quick));
        let parts =
            futures::stream::unfold((receiver, tasks), |(mut receiver, tasks)| async move {
                let part = receiver.recv().await?;
                Some((part, (receiver, tasks)))
            });
        parts.boxed()
    }
}

/// Spawns something for a query, in its share of the processors.
fn in_place<T>(place: &Place, spawn: impl FnOnce() -> T) -> T {
    match &place.cpu_share {
        Some(share) => share.scope(spawn),
        None => spawn(),
    }
}

/// What is said to the leader on the channel of a task.
struct Words<R> {
    state: Arc<TaskState>,
    /// Brings the last word when the query has ended; None after it.
    closed: Option<oneshot::Receiver<Option<Measured>>>,
    /// What the library says: held for as long as the query lives.
    _replies: R,
}

impl<R> Words<R> {
    /// What the task has done so far, after a while, or at its end.
    async fn next(mut self) -> Option<(Measured, Self)> {
        let mut closed = self.closed.take()?;
        loop {
            tokio::select! {
                last = &mut closed => return Some((last.ok().flatten()?, self)),
                () = tokio::time::sleep(MEASURED_INTERVAL) => {}
            }
            if let Some(measured) = self.state.measured() {
                self.closed = Some(closed);
                return Some((measured, self));
            }
        }
    }
}

async fn send_rows(
    worker: &Worker,
    request: ExecuteTaskRequest,
    sender: &mpsc::Sender<Result<Frame, Status>>,
) -> Result<()> {
    let (mut streams, _) = worker.execute_task(request).await?;
    let Some(rows) = streams.pop() else {
        return internal_err!("a partition has no stream");
    };
    let mut rows = guard(rows);
    let (mut writer, first) = FrameWriter::try_new(&rows.schema())?;
    let gone = |_| internal_datafusion_err!("nobody reads the partition");
    sender.send(Ok(first)).await.map_err(gone)?;
    while let Some(batch) = rows.next().await {
        if let Some(frame) = writer.batch(batch?)? {
            sender.send(Ok(frame)).await.map_err(gone)?;
        }
    }
    sender.send(Ok(writer.end())).await.map_err(gone)
}

/// The worker forgets an ended task, and frees what it holds, only when it is asked for another:
/// it is asked for one that never was.
async fn let_go(worker: Worker, tasks: Arc<Tasks>) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(LET_GO_INTERVAL).await;
        let closed = tasks.closed();
        if closed == seen {
            continue;
        }
        seen = closed;
        let request = ExecuteTaskRequest {
            task_key: TaskKey { query_id: Uuid::nil(), stage_id: 0, task_number: 0 },
            target_partition_start: 0,
            target_partition_end: 0,
            producer_head: ProducerHead::None,
        };
        // There is no such task: asking is all.
        let asked = tokio::time::timeout(Duration::from_millis(1), worker.execute_task(request));
        drop(asked.await);
    }
}

fn task_key(id: Option<TaskId>) -> Result<TaskKey> {
    let Some(id) = id else { return internal_err!("a request names no task") };
    let query = Uuid::from_slice(&id.query)
        .map_err(|error| internal_datafusion_err!("the id of a query: {error}"))?;
    let number = |number: u64| {
        usize::try_from(number).map_err(|error| internal_datafusion_err!("a number: {error}"))
    };
    Ok(TaskKey { query_id: query, stage_id: number(id.stage)?, task_number: number(id.task)? })
}

fn set_plan(open: TaskOpen) -> Result<SetPlanRequest> {
    let url = Url::parse(&open.url)
        .map_err(|error| internal_datafusion_err!("the address of a task: {error}"))?;
    Ok(SetPlanRequest {
        task_key: task_key(open.id)?,
        task_count: usize::try_from(open.task_count).unwrap_or(usize::MAX),
        plan: MaybeEncoded::Encoded(open.plan),
        work_unit_feed_declarations: Vec::new(),
        target_worker_url: url,
        query_start_time_ns: usize::try_from(open.started_ns).unwrap_or_default(),
    })
}

fn execute_task(open: RowsOpen) -> Result<ExecuteTaskRequest> {
    let partition = usize::try_from(open.partition)
        .map_err(|error| internal_datafusion_err!("a partition: {error}"))?;
    Ok(ExecuteTaskRequest {
        task_key: task_key(open.id)?,
        target_partition_start: partition,
        target_partition_end: partition + 1,
        producer_head: match open.head {
            Some(Head::Plain(_)) => ProducerHead::None,
            Some(Head::Broadcast(partitions)) => ProducerHead::BroadcastExec {
                output_partitions: usize::try_from(partitions).unwrap_or(usize::MAX),
            },
            Some(Head::Repartition(partitioning)) => {
                ProducerHead::RepartitionExec { partitioning: MaybeEncoded::Encoded(partitioning) }
            }
            None => return internal_err!("a request names no head"),
        },
    })
}
