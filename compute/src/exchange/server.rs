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
use tokio::runtime::Handle;
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
use super::tasks::Tasks;
use super::tls::Identity;
use super::{EPOCH_HEADER, MEMORY_HEADER};
use crate::codec::Site;
use crate::error::Error;
use crate::memory::QueryMemory;
use crate::node::Node;
use crate::object_storage::ObjectStorage;
use crate::plan::guard::guard;
use crate::service::messages::{
    Action, ControlReply, ControlRequest, CopyReply, CopyRequest, FileOpen, FilePart,
};
use crate::service::{NodeService, copy_files, send_file};

/// Frames of a partition between the query and the connection.
const FRAMES_QUEUED_MAX: usize = 2;
/// How often what ended queries hold is let go.
const LET_GO_INTERVAL: Duration = Duration::from_millis(500);
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
    pub queries: Handle,
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
    queries: Handle,
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
        Arc::new(Self { worker, node, tasks, service, channels, queries: parts.queries })
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
        letting_go.spawn_on(let_go(self.worker.clone(), Arc::clone(&self.tasks)), &self.queries);
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
        let request = open.ok_or_else(|| Status::invalid_argument("a task without a plan"))?;
        let request = set_plan(request).map_err(|error| to_status(&error))?;
        let memory = self.memory(&headers, request.task_key.query_id);
        let memory = memory.map_err(|error| to_status(&error))?;
        let task = self.tasks.open(&mut headers, memory);
        // Checked once the task can be ended: a leader that takes over ends all that it finds.
        self.service.check_epoch(epoch).map_err(|error| to_status(&error))?;
        let (closing, closed) = oneshot::channel::<Option<Measured>>();
        // Whatever ends this stream, the query has ended: the leader closes it, or is gone.
        let rest = futures::stream::once(async move {
            while let Ok(Some(_)) = incoming.message().await {}
            // The leader may be gone: then nobody wants to know.
            let _ = closing.send(task.measured());
            drop(task);
        });
        let rest = rest.filter_map(|()| futures::future::ready(None)).boxed();
        let worker = self.worker.clone();
        let mut opening = JoinSet::new();
        let opened = async move { worker.coordinator_channel(headers, request, rest).await };
        opening.spawn_on(opened, &self.queries);
        let replies = match opening.join_next().await {
            Some(Ok(replies)) => replies.map_err(|error| to_status(&error))?,
            Some(Err(error)) => return Err(Status::internal(error.to_string())),
            None => return Err(Status::internal("a task was not opened")),
        };
        // The library's replies say nothing that is sent on; the channel stays until the query has
        // ended, and what was measured is the last word.
        let last = futures::stream::once(async move {
            let _replies = replies;
            closed.await.ok().flatten()
        });
        let last = last.filter_map(|measured| {
            let reply = measured.map(|measured| Ok(TaskReply { measured: Some(measured) }));
            futures::future::ready(reply)
        });
        Ok(last.boxed())
    }

    /// The memory that the leader has granted to the query of a task.
    fn memory(&self, headers: &HeaderMap, query: Uuid) -> Result<Option<Arc<QueryMemory>>> {
        let Some(value) = headers.get(MEMORY_HEADER) else { return Ok(None) };
        let Some(bytes) = value.to_str().ok().and_then(|text| text.parse().ok()) else {
            return internal_err!("a grant of memory is not a number");
        };
        let make = || QueryMemory::new(&self.node.runtime_env(), bytes);
        self.tasks.share_memory(query, make).map(Some)
    }

    /// Starts a partition of a task.
    pub(super) fn rows(
        self: Arc<Self>,
        open: RowsOpen,
    ) -> Result<BoxStream<'static, Result<Frame, Status>>, Status> {
        let request = execute_task(open).map_err(|error| to_status(&error))?;
        let (sender, receiver) = mpsc::channel(FRAMES_QUEUED_MAX);
        let mut tasks = JoinSet::new();
        let worker = self.worker.clone();
        tasks.spawn_on(
            async move {
                if let Err(error) = send_rows(&worker, request, &sender).await {
                    // Nobody may be there any more to hear it.
                    let _ = sender.send(Err(to_status(&error))).await;
                }
            },
            &self.queries,
        );
        // The set goes with the stream, and the task with the set.
        let frames =
            futures::stream::unfold((receiver, tasks), |(mut receiver, tasks)| async move {
                let frame = receiver.recv().await?;
                Some((frame, (receiver, tasks)))
            });
        Ok(frames.boxed())
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
        tasks.spawn_blocking_on(move || node.service.answer(request), &self.queries);
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
        tasks.spawn_on(copy_files(service, channels, request), &self.queries);
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
        tasks.spawn_blocking_on(sending, &self.queries);
        let parts =
            futures::stream::unfold((receiver, tasks), |(mut receiver, tasks)| async move {
                let part = receiver.recv().await?;
                Some((part, (receiver, tasks)))
            });
        parts.boxed()
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
