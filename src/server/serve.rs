//! The server: connections in, each request to its route, and an orderly end.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rayon::ThreadPool;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{sleep, timeout};

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::server::audit::Audit;
use crate::server::body::Bodies;
use crate::server::cache::front::{Front, FrontSettings};
use crate::server::catalog::{Catalog, Opening};
use crate::server::crowd::{Crowd, Member};
use crate::server::dispatch::{Shared, answer};
use crate::server::keys::gate::Gate;
use crate::server::keys::ring::Ring;
use crate::server::keys::sites::{Sites, check_bind};
use crate::server::ledger::Ledger;
use crate::server::limits::{Deadlines, HEAD_BYTES, HEADERS, Limits};
use crate::server::log::Log;
use crate::server::lookout::Lookout;
use crate::server::moment::Clock;
use crate::server::upkeep;
use crate::server::watched::{Phase, Watched};
use crate::server::work::Work;

/// Connections that the system holds until they are taken in: whoever comes beyond them tries again a second later.
const BACKLOG: u32 = 1024;

/// How long a connection that could not be accepted is not tried again: the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long is waited for a place before another connection is asked to leave.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// How long a connection may keep the server waiting before it has to make room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Threads for vectors of texts, judges and upkeep of caches, which requests wait for or nobody does.
const BESIDE: usize = 16;

/// The audit file in the folder of collections.
const AUDIT: &str = "audit.jsonl";

/// What a server is made of.
pub struct ServeSettings {
    /// The folder of collections.
    pub data: PathBuf,
    /// Where it listens; port 0 is any that is free.
    pub bind: SocketAddr,
    /// Threads that search and build.
    pub pool: Arc<ThreadPool>,
    /// Memory for the vectors and codes of each collection.
    pub budget_bytes: u64,
    /// Share of the queries that near ways answered which are asked again, exactly, to know recall: 0 to 1.
    pub check_recall: f64,
    /// How long it waits for what.
    pub deadlines: Deadlines,
    /// How much it does at once.
    pub limits: Limits,
    /// Names under which it is reached, beside those of this machine for itself; any, if it listens for others and this is empty.
    pub hosts: Vec<String>,
    /// Where its log goes.
    pub log: Log,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Its caches, and the model server behind.
    pub front: FrontSettings,
}

/// A server that runs in threads of its own, until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<bool>>,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts a server: it listens when this returns, and opens its collections.
    ///
    /// # Errors
    /// `insecure_bind` if others could reach it without a key; `locked` if another has the folder; those of keys, of the folder
    /// and of the socket.
    pub fn start(settings: ServeSettings) -> Result<Self> {
        let ServeSettings {
            data,
            bind,
            pool,
            budget_bytes,
            check_recall,
            deadlines,
            limits,
            hosts,
            log,
            clock,
            front,
        } = settings;
        let ring = Ring::open(&data)?;
        check_bind(bind, ring.has_keys())?;
        let n_cores = pool.current_num_threads();
        let n_workers = limits.workers.unwrap_or(n_cores + (n_cores / 2).max(1));
        let front_pool = Arc::clone(&pool);
        let catalog = Arc::new(Catalog::open(&data, Opening { pool, budget_bytes, check_recall })?);
        let audit = Audit::open(&data.join(AUDIT))?;
        let front = Arc::new(Front::open(&data, front, &front_pool)?);
        // One more than short requests may take.
        let threads = (n_cores + 1, limits.connections + n_workers);
        let runtime = runtime(threads).at("start threads of", &data)?;
        let socket = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "bind", format!("cannot listen at {bind}: {error}"))
        };
        let listener = runtime.block_on(async { listen(bind) }).map_err(socket)?;
        let address = listener.local_addr().map_err(socket)?;
        let handle = runtime.handle().clone();
        let wake = move || drop(handle.spawn(async {}));
        let lookout = Lookout::start(n_cores, wake).at("start a thread of", &data)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            catalog,
            work: Work::new((n_workers, n_cores), limits.order, Arc::clone(&clock))
                .with_lookout(lookout),
            bodies: Bodies::new(limits.bodies_bytes),
            deadlines,
            limits,
            is_ready: AtomicBool::new(false),
            gate: Gate::new(ring, Sites::new(bind.ip(), hosts)),
            ledger: Ledger::new(clock, log, audit)?,
            front,
        });
        shared.front.note().iter().for_each(|note| shared.ledger.note(note));
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || run(runtime, listener, &own, stopped));
        Ok(Self { address, stop, thread: Some(thread), shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Panics of handlers so far: each is a bug of ours.
    pub fn n_incidents(&self) -> u64 {
        self.shared.work.n_incidents()
    }

    /// What asks it to stop, from wherever.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || {
            // Whoever has stopped already needs not be told.
            let _ = stop.send(true);
        }
    }

    /// Waits until it has stopped. Says whether all requests in flight were answered in time.
    pub fn wait(mut self) -> bool {
        let thread = self.thread.take().expect("it is waited for once");
        thread.join().unwrap_or(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was said where it happened.
            let _ = thread.join();
        }
    }
}

/// So many threads that read sockets, and threads for so many requests.
fn runtime((n_sockets, n_requests): (usize, usize)) -> std::io::Result<Runtime> {
    // A request that gives way keeps its thread: there are threads for all there can be, though few of them work at once. One
    // more is for upkeep, and one to open collections; texts that are embedded and judges that are asked have theirs beside.
    Builder::new_multi_thread()
        .worker_threads(n_sockets)
        .max_blocking_threads(n_requests + 2 + BESIDE)
        .thread_name("nearkin-serve")
        .enable_all()
        .build()
}

/// Serves until it is told to stop; says whether all requests were answered in time.
fn run(
    runtime: Runtime,
    listener: TcpListener,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<bool>,
) -> bool {
    let deadline = shared.deadlines.stop;
    let is_clean = runtime.block_on(async {
        let opening = Arc::clone(shared);
        tokio::task::spawn_blocking(move || open_all(&opening));
        let keeping = tokio::spawn(upkeep::keep(Arc::clone(&shared.catalog)));
        let keeping_caches = tokio::spawn(upkeep::keep_caches(Arc::clone(shared)));
        let keeping_load = tokio::spawn(upkeep::keep_load(Arc::clone(shared)));
        let checking = tokio::spawn(upkeep::check_recall(Arc::clone(&shared.catalog)));
        let n_connections = shared.limits.connections;
        let connections = Arc::new(Semaphore::new(n_connections));
        let accepting = accept(&listener, shared, &connections, &stopped);
        first(accepting, until(stopped.clone())).await;
        drop(listener);
        keeping.abort();
        keeping_caches.abort();
        keeping_load.abort();
        checking.abort();
        let all = connections.acquire_many(n_connections as u32);
        let is_clean = timeout(deadline, all).await.is_ok();
        // What nobody waits for any more is done whole.
        timeout(deadline, shared.work.ended()).await.is_ok() && is_clean
    });
    runtime.shutdown_timeout(deadline);
    is_clean
}

/// Opens every collection, so that the first request of each need not wait for it.
fn open_all(shared: &Shared) {
    for entry in shared.catalog.entries() {
        match entry.collection() {
            Ok(collection) => {
                let notes = collection.notes();
                notes.iter().for_each(|note| eprintln!("collection {:?}: {note}", entry.name()));
            }
            Err(error) => eprintln!("collection {:?} is not opened: {error}", entry.name()),
        }
    }
    shared.is_ready.store(true, Ordering::Relaxed);
}

/// Takes a port, with room for a burst of connections.
fn listen(bind: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if bind.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that ended can be started again at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(BACKLOG)
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    connections: &Arc<Semaphore>,
    stopped: &watch::Receiver<bool>,
) {
    let crowd = Arc::new(Crowd::default());
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(permit) = permit(connections, &crowd).await else { return };
        let phase = Phase::new();
        let place = (permit, crowd.enter(Arc::clone(&phase)));
        let from = (stream, from.ip(), phase);
        tokio::spawn(serve(from, Arc::clone(shared), stopped.clone(), place));
    }
}

/// A place for a connection, once there is one: whoever keeps the server waiting longest makes room.
async fn permit(connections: &Arc<Semaphore>, crowd: &Crowd) -> Option<OwnedSemaphorePermit> {
    loop {
        match Arc::clone(connections).try_acquire_owned() {
            Ok(permit) => return Some(permit),
            Err(TryAcquireError::Closed) => return None,
            Err(TryAcquireError::NoPermits) => drop(crowd.make_room(PATIENCE)),
        }
        let next = Arc::clone(connections).acquire_owned();
        if let Ok(permit) = timeout(ROOM_PAUSE, next).await {
            return permit.ok();
        }
    }
}

/// Answers the requests of one connection.
async fn serve(
    (stream, address, phase): (TcpStream, IpAddr, Arc<Phase>),
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    _place: (OwnedSemaphorePermit, Member),
) {
    // Without it, small answers wait for an acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&phase), shared.deadlines));
    let service = service_fn(|request| {
        let (shared, phase) = (Arc::clone(&shared), Arc::clone(&phase));
        async move {
            phase.answering();
            let response = answer(&shared, request, address, Instant::now()).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| body.told_to(&phase)))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(None).half_close(false);
    http.max_headers(HEADERS).max_header_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(io, service));
    // How a connection ends is the client's affair; what it asked for was answered or was not begun.
    let ends = first(phase.left(), until(stopped));
    let ends = async { _ = ends.await };
    if first(connection.as_mut(), ends).await.is_none() {
        phase.stop();
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Waits until the server is told to stop.
async fn until(mut stopped: watch::Receiver<bool>) {
    // Without a sender nobody can say it any more.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// What `one` gives, or nothing if `other` ends before.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = ()>) -> Option<T> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| {
        if let Poll::Ready(given) = one.as_mut().poll(context) {
            return Poll::Ready(Some(given));
        }
        other.as_mut().poll(context).map(|()| None)
    })
    .await
}
