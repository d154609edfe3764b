//! The asking side: connections to nodes, and a node as `datafusion-distributed` asks it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest,
    GetWorkerInfoResponse, ProducerHead, SetPlanRequest, TaskKey, WorkerChannel,
    WorkerToCoordinatorMsg,
};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::codegen::http::HeaderMap;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Extensions, Request};
use tonic_prost::ProstCodec;
use url::Url;

use super::failure::{from_status, unreachable_node};
use super::frames::batches;
use super::measured::{BYTES_RECEIVED, to_task_metrics};
use super::messages::{Frame, Head, RowsOpen, TaskId, TaskOpen, TaskReply};
use super::query_watch::QueryWatch;
use super::rpc;
use super::tls::Identity;
use crate::cpu_share::CpuShare;
use crate::query_threads::Pace;
use crate::service::messages::{
    ControlReply, ControlRequest, CopyReply, CopyRequest, FileOpen, FilePart,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A host that is gone without a word is noticed after the interval and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of one partition that may be on their way.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Never what holds a partition up: each has its own window.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// Connections to the nodes of the cluster, one to each, made when they are needed.
#[derive(Debug)]
pub struct NodeChannels {
    identity: Identity,
    /// Where connections are served, apart from the work of queries.
    io: Handle,
    channels: Mutex<HashMap<Url, Channel>>,
}

impl NodeChannels {
    /// Connections that show this certificate.
    pub fn new(identity: Identity, io: Handle) -> Arc<Self> {
        Arc::new(Self { identity, io, channels: Mutex::default() })
    }

    fn channel(&self, url: &Url) -> Result<Channel> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(url) {
            return Ok(channel.clone());
        }
        let broken =
            |error: tonic::transport::Error| unreachable_node(url.as_str(), &chain(&error));
        let endpoint = Endpoint::from_shared(url.as_str().to_owned())
            .and_then(|endpoint| endpoint.tls_config(self.identity.client()))
            .map_err(broken)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let _io = self.io.enter();
        let channel = endpoint.connect_lazy();
        channels.insert(url.clone(), channel.clone());
        Ok(channel)
    }

    fn node(&self, url: &Url) -> Result<NodeChannel> {
        let grpc = Grpc::new(self.channel(url)?)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(NodeChannel { grpc, node: url.authority().into() })
    }

    /// Asks the control service of a node.
    pub(crate) async fn control(&self, url: &Url, request: ControlRequest) -> Result<ControlReply> {
        let mut node = self.node(url)?;
        node.ready().await?;
        let request = Request::new(request);
        let path = PathAndQuery::from_static(rpc::CONTROL);
        let reply = node.grpc.unary(request, path, ProstCodec::default()).await;
        Ok(reply.map_err(|status| from_status(&status, &node.node))?.into_inner())
    }

    /// Has a node copy segments from another.
    pub(crate) async fn copy(&self, url: &Url, request: CopyRequest) -> Result<CopyReply> {
        let mut node = self.node(url)?;
        node.ready().await?;
        let path = PathAndQuery::from_static(rpc::COPY);
        let reply = node.grpc.unary(Request::new(request), path, ProstCodec::default()).await;
        Ok(reply.map_err(|status| from_status(&status, &node.node))?.into_inner())
    }

    /// Asks a node for the file of a segment.
    pub(crate) async fn file(
        &self,
        url: &Url,
        open: FileOpen,
    ) -> Result<BoxStream<'static, Result<FilePart>>> {
        let mut node = self.node(url)?;
        node.ready().await?;
        let path = PathAndQuery::from_static(rpc::FILE);
        let codec = ProstCodec::<FileOpen, FilePart>::default();
        let reply = node.grpc.server_streaming(Request::new(open), path, codec).await;
        let name = node.node;
        let parts = reply.map_err(|status| from_status(&status, &name))?.into_inner();
        Ok(parts.map(move |part| part.map_err(|status| from_status(&status, &name))).boxed())
    }
}

/// The error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[async_trait]
impl ChannelResolver for NodeChannels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>> {
        Ok(Box::new(self.node(url)?))
    }
}

/// A node over its connection.
#[derive(Clone)]
struct NodeChannel {
    grpc: Grpc<Channel>,
    node: Arc<str>,
}

impl NodeChannel {
    async fn ready(&mut self) -> Result<()> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| unreachable_node(&self.node, &chain(&error)))
    }

    async fn rows(
        mut self,
        headers: HeaderMap,
        open: RowsOpen,
        bytes: Count,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        self.ready().await?;
        let metadata = MetadataMap::from_headers(headers);
        let request = Request::from_parts(metadata, Extensions::default(), open);
        let path = PathAndQuery::from_static(rpc::ROWS);
        let codec = ProstCodec::<RowsOpen, Frame>::default();
        let reply = self.grpc.server_streaming(request, path, codec).await;
        let frames = reply.map_err(|status| from_status(&status, &self.node))?.into_inner();
        Ok(batches(frames, self.node, bytes))
    }
}

/// Each new share of a query, for as long as somebody may give it another.
fn new_shares(shares: Option<watch::Receiver<u32>>) -> impl Stream<Item = TaskOpen> + Send {
    futures::stream::unfold(shares, |shares| async move {
        let Some(mut shares) = shares else { return std::future::pending().await };
        if shares.changed().await.is_err() {
            return std::future::pending().await;
        }
        let cpu_share = *shares.borrow_and_update();
        Some((TaskOpen { cpu_share, ..TaskOpen::default() }, Some(shares)))
    })
}

fn task_id(key: TaskKey) -> TaskId {
    TaskId {
        query: key.query_id.as_bytes().to_vec(),
        stage: key.stage_id as u64,
        task: key.task_number as u64,
    }
}

impl NodeChannel {
    /// Sends the plan of a task. What comes back ends with the query, with what was measured if
    /// that is wanted, or fails with the task.
    async fn open_task(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let share = context.session_config().get_extension::<CpuShare>();
        let shares = share.as_ref().map(|share| share.subscribe());
        let open = TaskOpen {
            id: Some(task_id(request.task_key)),
            task_count: request.task_count as u64,
            plan: request.plan.encode(context)?,
            url: request.target_worker_url.to_string(),
            started_ns: request.query_start_time_ns as u64,
            cpu_share: shares.as_ref().map_or(0, |shares| *shares.borrow()),
            pace: share.map_or(Pace::Quick, |share| share.pace()).number(),
        };
        // The messages say nothing that a node needs; that they go on says that the query lives.
        let ended = messages.for_each(|_| futures::future::ready(()));
        let rest = new_shares(shares).take_until(ended);
        let opening = futures::stream::once(futures::future::ready(open)).chain(rest);
        self.ready().await?;
        let metadata = MetadataMap::from_headers(headers);
        let request = Request::from_parts(metadata, Extensions::default(), opening);
        let path = PathAndQuery::from_static(rpc::TASK);
        let codec = ProstCodec::<TaskOpen, TaskReply>::default();
        let reply = self.grpc.streaming(request, path, codec).await;
        let replies = reply.map_err(|status| from_status(&status, &self.node))?.into_inner();
        let node = Arc::clone(&self.node);
        let messages = replies.filter_map(move |reply| {
            let message = match reply {
                Ok(reply) => reply.measured.map(|measured| {
                    Ok(WorkerToCoordinatorMsg::TaskMetrics(to_task_metrics(measured)))
                }),
                Err(status) => Some(Err(from_status(&status, &node))),
            };
            futures::future::ready(message)
        });
        Ok(messages.boxed())
    }
}

#[async_trait]
impl WorkerChannel for NodeChannel {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        request: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        _: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg>>> {
        let watch = context.session_config().get_extension::<QueryWatch>();
        let tell = move |error: DataFusionError| {
            let error = Arc::new(error);
            if let Some(watch) = &watch {
                watch.fail(&error);
            }
            DataFusionError::Shared(error)
        };
        match self.open_task(headers, request, messages, context).await {
            Ok(messages) => Ok(messages.map(move |message| message.map_err(&tell)).boxed()),
            Err(error) => Err(tell(error)),
        }
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch>>>> {
        let head = match request.producer_head {
            ProducerHead::None => Head::Plain(true),
            ProducerHead::BroadcastExec { output_partitions } => {
                Head::Broadcast(output_partitions as u64)
            }
            ProducerHead::RepartitionExec { partitioning } => {
                Head::Repartition(partitioning.encode(context)?)
            }
        };
        let opens =
            (request.target_partition_start..request.target_partition_end).map(|partition| {
                let open = RowsOpen {
                    id: Some(task_id(request.task_key)),
                    partition: partition as u64,
                    head: Some(head.clone()),
                };
                let bytes = MetricBuilder::new(&metrics).counter(BYTES_RECEIVED, partition);
                self.clone().rows(headers.clone(), open, bytes)
            });
        futures::future::try_join_all(opens).await
    }

    async fn get_worker_info(&mut self, _: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse> {
        internal_err!("nodes are asked by the control service")
    }
}
