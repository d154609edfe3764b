//! A server of the built binary, owned by one test: its own directory, its own port, its log kept
//! and read at the end. Dropping it stops the process.
//!
//! With `BLUESHIFT_TEST_URL=postgres://user:password@host:port/database` in the environment, tests
//! that only talk to a server talk to that one instead. This is how the harness and the client
//! programs are proven against PostgreSQL; tests that kill or configure a server cannot run so.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::support::program;

/// The superuser's password in every test cluster. Letters of both cases and a digit, as Redshift
/// demands.
pub(crate) const PASSWORD: &str = "Correct7Horse";

/// A first start makes keys, a certificate and a catalog; under load that can take seconds.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// Where a server listens and who may log in.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

impl Address {
    /// Reads `postgres://user[:password]@host:port/database`.
    fn parse(url: &str, default_password: &str) -> Address {
        let rest = url.strip_prefix("postgres://").expect("a postgres:// address");
        let (login, place) = rest.split_once('@').expect("user@host");
        let (user, password) = login.split_once(':').unwrap_or((login, default_password));
        let (place, database) = place.split_once('/').expect("host/database");
        let (host, port) = place.rsplit_once(':').expect("host:port");
        Address {
            host: host.to_owned(),
            port: port.parse().expect("a port number"),
            user: user.to_owned(),
            password: password.to_owned(),
            database: database.to_owned(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(&self.password)
            .dbname(&self.database)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.config()).await.expect("a new session")
    }

    /// A plain socket, for tests that write the bytes of the protocol themselves. Reads give up
    /// after half a minute.
    pub(crate) fn socket(&self) -> TcpStream {
        let address: SocketAddr = format!("{}:{}", self.host, self.port).parse().unwrap();
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        socket
    }
}

/// Connects, and runs the connection in a task of the test's runtime.
pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // How the connection ended shows in the results of the client's calls.
        let _ended = connection.await;
    });
    Ok(client)
}

/// How a cluster is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Variables of the server's environment, such as those of an object store.
    pub(crate) environment: Vec<(String, String)>,
    /// The text of a configuration file.
    pub(crate) config: Option<String>,
    /// Further arguments of `blueshift start`.
    pub(crate) arguments: Vec<String>,
}

/// One running server.
pub(crate) struct Cluster {
    pub(crate) address: Address,
    options: Options,
    directory: TempDir,
    /// None when a server from outside is used, or after the process has ended.
    process: Option<Child>,
    starts: u32,
    warnings_expected: bool,
}

impl Cluster {
    /// A fresh single-node cluster with default settings.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Cluster {
        let directory = tempfile::Builder::new().prefix("blueshift-test-").tempdir().unwrap();
        if let Ok(url) = std::env::var("BLUESHIFT_TEST_URL") {
            let address = fresh_database(Address::parse(&url, PASSWORD), directory.path());
            return Cluster {
                address,
                options,
                directory,
                process: None,
                starts: 0,
                warnings_expected: false,
            };
        }
        let address = Address::parse("postgres://nobody@127.0.0.1:0/none", PASSWORD);
        let mut cluster = Cluster {
            address,
            options,
            directory,
            process: None,
            starts: 0,
            warnings_expected: false,
        };
        cluster.launch();
        cluster
    }

    /// A fresh cluster whose server can be killed and restarted, whatever the environment says.
    pub(crate) fn start_own(options: Options) -> Cluster {
        assert!(
            std::env::var_os("BLUESHIFT_TEST_URL").is_none(),
            "this test needs a server of its own: unset BLUESHIFT_TEST_URL"
        );
        Cluster::start_with(options)
    }

    /// Whether the server is one from outside (`BLUESHIFT_TEST_URL`).
    pub(crate) fn is_foreign(&self) -> bool {
        self.starts == 0
    }

    pub(crate) async fn connect(&self) -> Client {
        self.address.connect().await
    }

    /// For a test that does what operators are warned of.
    pub(crate) fn expect_warnings(&mut self) {
        self.warnings_expected = true;
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// Ends the process as a power cut would: at once, without a chance to clean up.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("a running server");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts a server again on the same directory; the port may change.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again with further arguments, this once.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "the server must have been killed or stopped");
        let usual = self.options.arguments.len();
        self.options.arguments.extend(arguments.iter().map(|text| (*text).to_owned()));
        self.launch();
        self.options.arguments.truncate(usual);
    }

    /// What a server says that must not start with these arguments on the same directory.
    pub(crate) fn refuses_to_start(&self, arguments: &[&str]) -> String {
        let own: Vec<&str> = self.options.arguments.iter().map(String::as_str).collect();
        self.refuses_to_start_instead(&[own.as_slice(), arguments].concat())
    }

    /// The same with these arguments in place of its own.
    pub(crate) fn refuses_to_start_instead(&self, arguments: &[&str]) -> String {
        assert!(self.process.is_none(), "the server must have been killed or stopped");
        let output = Command::new(binary())
            .args(["start", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data_directory())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "it started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What `blueshift verify` says of a directory.
    pub(crate) fn verify(&self, directory: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.arg("verify").arg("--data-dir").arg(directory).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Asks the server to end with SIGTERM and waits for it.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.stop_with("TERM")
    }

    pub(crate) fn stop_with(&mut self, signal_name: &str) -> ExitStatus {
        let mut process = self.process.take().expect("a running server");
        signal(process.id(), signal_name);
        let deadline = Instant::now() + STOPPED_WITHIN;
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                process.kill().unwrap();
                panic!("the server did not end within {STOPPED_WITHIN:?} of SIG{signal_name}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory of the server process, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let process = self.process.as_ref().expect("a running server");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kilobytes * 1024
    }

    /// Processor time that the server has used, in ticks of 10 milliseconds.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let process = self.process.as_ref().expect("a running server");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        // The second field, the name in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
        ticks(11) + ticks(12)
    }

    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What the server has written to its log since the test began.
    pub(crate) fn log(&self) -> String {
        (1..=self.starts)
            .map(|start| std::fs::read(self.log_file(start)).unwrap_or_default())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    fn log_file(&self, start: u32) -> PathBuf {
        self.directory.path().join(format!("log-{start}"))
    }

    fn launch(&mut self) {
        self.starts += 1;
        let mut command = Command::new(binary());
        command.args(["start", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(self.data_directory());
        if let Some(text) = &self.options.config {
            let file = self.directory.path().join("blueshift.toml");
            std::fs::write(&file, text).unwrap();
            command.arg("--config").arg(file);
        }
        command.args(&self.options.arguments);
        command.env("BLUESHIFT_PASSWORD", PASSWORD);
        command.envs(self.options.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(self.log_file(self.starts)).unwrap());
        let mut process = command.spawn().unwrap();
        let lines = read_lines(process.stdout.take().unwrap());
        self.process = Some(process);
        self.address = self.wait_until_ready(&lines);
    }

    fn wait_until_ready(&mut self, lines: &Receiver<String>) -> Address {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(url) = line.strip_prefix("ready: ") {
                        return Address::parse(url.trim(), PASSWORD);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the server was not ready within {READY_WITHIN:?}\n{}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the server ended before it was ready\n{}", self.log())
                }
            }
        }
    }

    /// Log lines at WARN or ERROR, and panics: no test of this suite is a reason for one.
    fn unexpected_log_lines(&self) -> Vec<String> {
        let log = strip_colours(&self.log());
        let loud = log.lines().filter(|line| {
            let mut words = line.split_whitespace().take(4);
            words.any(|word| word == "WARN" || word == "ERROR") || line.contains("panicked at")
        });
        loud.map(str::to_owned).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _already_ended = process.kill();
            let _reaped = process.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            let tail = (tail..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
            eprintln!("--- end of the server's log ---\n{}", &log[tail..]);
            return;
        }
        if self.warnings_expected {
            return;
        }
        let unexpected = self.unexpected_log_lines();
        assert!(unexpected.is_empty(), "unexpected lines in the server's log: {unexpected:#?}");
    }
}

/// The server's binary: what `BLUESHIFT_BINARY` says, else cargo's own for the root package's tests.
pub(crate) fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_blueshift").map(PathBuf::from);
    let named = std::env::var_os("BLUESHIFT_BINARY").map(PathBuf::from);
    named.or(built).expect("BLUESHIFT_BINARY is set")
}

/// On a server that other tests use too, each test gets a database of its own.
fn fresh_database(address: Address, unique: &Path) -> Address {
    let suffix = unique.file_name().unwrap().to_string_lossy().to_lowercase();
    let database = suffix.replace(['-', '.'], "_");
    let statement = format!("CREATE DATABASE \"{database}\"");
    program::run(program::psql(&address).args(["-c", &statement]), "").expect_success();
    Address { database, ..address }
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

/// The number of bytes that the files below a folder take.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        // A file may be removed while we look.
        if let Ok(metadata) = entry.metadata() {
            bytes += if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() };
        }
    }
    bytes
}

/// Keeps reading for as long as the process writes, so that it never blocks on a full pipe.
fn read_lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _nobody_waits_any_more = sender.send(line);
        }
    });
    receiver
}

fn strip_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let tail = &rest[at + 2..];
        let end = tail.find('m').map_or(tail.len(), |end| end + 1);
        rest = &tail[end..];
    }
    plain.push_str(rest);
    plain
}
