//! The gRPC service of the cluster port, written out: five methods.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use faults::{Call, Moment};
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{Frame, RowsOpen, TaskOpen, TaskReply};
use super::server::NodeServer;
use crate::service::messages::{
    Action, ControlReply, ControlRequest, CopyReply, CopyRequest, FileOpen, FilePart,
};

pub(super) const TASK: &str = "/blueshift.Cluster/Task";
pub(super) const ROWS: &str = "/blueshift.Cluster/Rows";
pub(super) const CONTROL: &str = "/blueshift.Cluster/Control";
pub(super) const COPY: &str = "/blueshift.Cluster/Copy";
pub(super) const FILE: &str = "/blueshift.Cluster/File";

/// The service as tonic serves it.
#[derive(Clone)]
pub(super) struct ClusterService(pub(super) Arc<NodeServer>);

impl NamedService for ClusterService {
    const NAME: &'static str = "blueshift.Cluster";
}

fn grpc<T, U>() -> Grpc<ProstCodec<T, U>>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

impl<B> Service<http::Request<B>> for ClusterService
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match request.uri().path() {
                TASK => grpc().streaming(TaskMethod(node), request).await,
                ROWS => grpc().server_streaming(RowsMethod(node), request).await,
                CONTROL => grpc().unary(ControlMethod(node), request).await,
                COPY => grpc().unary(CopyMethod(node), request).await,
                FILE => grpc().server_streaming(FileMethod(node), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct TaskMethod(Arc<NodeServer>);

impl StreamingService<TaskOpen> for TaskMethod {
    type Response = TaskReply;
    type ResponseStream = BoxStream<'static, Result<TaskReply, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<TaskOpen>>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            reach(Call::Task)?;
            Ok(Response::new(cut(Call::Task, node.task(request).await?)))
        })
    }
}

struct RowsMethod(Arc<NodeServer>);

impl ServerStreamingService<RowsOpen> for RowsMethod {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Result<Frame, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<RowsOpen>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            reach(Call::Rows)?;
            Ok(Response::new(cut(Call::Rows, node.rows(request.into_inner())?)))
        })
    }
}

struct ControlMethod(Arc<NodeServer>);

impl UnaryService<ControlRequest> for ControlMethod {
    type Response = ControlReply;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<ControlRequest>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            let request = request.into_inner();
            let call = call_of(&request);
            call.map_or(Ok(()), reach)?;
            let reply = node.control(request).await?;
            call.map_or(Ok(()), answer)?;
            Ok(Response::new(reply))
        })
    }
}

struct CopyMethod(Arc<NodeServer>);

impl UnaryService<CopyRequest> for CopyMethod {
    type Response = CopyReply;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<CopyRequest>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            reach(Call::Copy)?;
            let reply = node.copy(request.into_inner()).await?;
            answer(Call::Copy)?;
            Ok(Response::new(reply))
        })
    }
}

struct FileMethod(Arc<NodeServer>);

impl ServerStreamingService<FileOpen> for FileMethod {
    type Response = FilePart;
    type ResponseStream = BoxStream<'static, Result<FilePart, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<FileOpen>) -> Self::Future {
        let node = Arc::clone(&self.0);
        Box::pin(async move {
            reach(Call::File)?;
            Ok(Response::new(cut(Call::File, node.file(request.into_inner()))))
        })
    }
}

/// Where a test loses a message before it is heard.
fn reach(call: Call) -> Result<(), Status> {
    if faults::loses(call, Moment::Before) { Err(lost()) } else { Ok(()) }
}

/// Where a test loses the answer.
fn answer(call: Call) -> Result<(), Status> {
    if faults::loses(call, Moment::After) { Err(lost()) } else { Ok(()) }
}

/// Where a test cuts a stream off, after its first message.
fn cut<T: Send + 'static>(
    call: Call,
    stream: BoxStream<'static, Result<T, Status>>,
) -> BoxStream<'static, Result<T, Status>> {
    if !faults::loses(call, Moment::After) {
        return stream;
    }
    stream.take(1).chain(futures::stream::once(async { Err(lost()) })).boxed()
}

/// What a client sees of a connection that breaks.
fn lost() -> Status {
    Status::unavailable("the connection is lost")
}

fn call_of(request: &ControlRequest) -> Option<Call> {
    Some(match request.action.as_ref()? {
        Action::Open(_) => Call::Open,
        Action::Heartbeat(_) => Call::Heartbeat,
        Action::RemoveSegments(_) => Call::Remove,
        Action::AbandonWrite(_) => Call::Abandon,
        Action::StoreCatalog(_) => Call::StoreCatalog,
        Action::FetchCatalog(_) => Call::FetchCatalog,
        Action::Inventory(_) => Call::Inventory,
        Action::WriteDeletions(_) => Call::WriteDeletions,
        Action::Rewrite(_) => Call::Rewrite,
    })
}
