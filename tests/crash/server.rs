//! A server that dies often: its processes, and how they are started and ended. Its log and what it
//! leaves behind to say where it died lie outside of its data, on a disk that keeps them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::{Client, Config, NoTls};

/// The superuser's password.
const PASSWORD: &str = "Correct7Horse";
const READY_WITHIN: Duration = Duration::from_secs(90);
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A server, whether it runs or not.
pub(crate) struct Server {
    binary: PathBuf,
    data: PathBuf,
    outside: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    address: Config,
}

impl Server {
    /// One that has its data in `data` and never ran. `outside` is a directory for its log.
    pub(crate) fn new(
        data: PathBuf,
        outside: &Path,
        arguments: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Server {
        let binary =
            std::env::var_os("BLUESHIFT_BINARY").expect("BLUESHIFT_BINARY names the server");
        Server {
            binary: binary.into(),
            data,
            outside: outside.to_owned(),
            arguments,
            environment,
            process: None,
            address: Config::new(),
        }
    }

    /// Where a process writes that has died at a place.
    pub(crate) fn mark(&self) -> PathBuf {
        self.outside.join("mark")
    }

    /// When that was.
    pub(crate) fn mark_time(&self) -> Option<SystemTime> {
        std::fs::metadata(self.mark()).and_then(|mark| mark.modified()).ok()
    }

    /// The number of its first process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// A line of its log that tells of a panic.
    pub(crate) fn panic(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().find(|line| line.contains("panicked at")).map(str::to_owned)
    }

    fn log(&self) -> PathBuf {
        self.outside.join("log")
    }

    /// The end of what it has said.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Starts it with these further variables.
    ///
    /// # Errors
    /// Tells why it does not serve.
    pub(crate) fn start(&mut self, environment: &[(&str, String)]) -> Result<(), String> {
        let lines = self.spawn(environment);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(place) = line.strip_prefix("ready: postgres://") {
                        self.address = address(place.trim());
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.process.as_mut().unwrap().wait();
                    return Err(format!("it ended: {status:?}"));
                }
                Err(RecvTimeoutError::Timeout) => return Err("it is not ready in time".to_owned()),
            }
        }
    }

    /// Starts it and ends it after a while, whatever it has come to.
    pub(crate) fn start_for(&mut self, time: Duration) {
        let _lines = self.spawn(&[]);
        std::thread::sleep(time);
        self.kill();
    }

    fn spawn(&mut self, environment: &[(&str, String)]) -> Receiver<String> {
        assert!(self.process.is_none(), "it runs already");
        let _there_was_none = std::fs::remove_file(self.mark());
        let log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(&self.binary);
        command.args(["start", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&self.data);
        command.args(&self.arguments);
        command.env("BLUESHIFT_PASSWORD", PASSWORD).env("BLUESHIFT_FAULT_MARK", self.mark());
        command.envs(self.environment.iter().cloned());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().unwrap();
        let output = process.stdout.take().unwrap();
        self.process = Some(process);
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _nobody_waits_any_more = sender.send(line);
            }
        });
        receiver
    }

    /// A new session.
    pub(crate) async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        connect(&self.address).await
    }

    pub(crate) fn address(&self) -> Config {
        self.address.clone()
    }

    /// Whether a process was started and not ended.
    pub(crate) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its first process runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// The processes of the nodes that it has started.
    pub(crate) fn nodes(&self) -> Vec<u32> {
        let Some(process) = &self.process else { return Vec::new() };
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id()));
        let mut found = Vec::new();
        // Any thread may have started one.
        for thread in threads.into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        found
    }

    /// Ends all its processes at once, without a chance to clean up.
    pub(crate) fn kill(&mut self) {
        let nodes = self.nodes();
        let Some(mut process) = self.process.take() else { return };
        let _already_dead = process.kill();
        nodes.iter().for_each(|node| kill(*node));
        process.wait().unwrap();
        let deadline = Instant::now() + GONE_WITHIN;
        while nodes.iter().any(|node| is_process(*node)) {
            assert!(Instant::now() < deadline, "a node does not die");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks it to end, and waits for it.
    ///
    /// # Errors
    /// When it does not, or not in peace.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let asked = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        assert!(asked.unwrap().success());
        let deadline = Instant::now() + GONE_WITHIN;
        let status = loop {
            match process.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => return Err("it does not stop".to_owned()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.process = None;
        if status.success() { Ok(()) } else { Err(format!("it stopped with {status}")) }
    }

    /// Ends its first process, the leader, at once; nodes end some time after it.
    pub(crate) fn kill_leader(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _already_dead = process.kill();
        process.wait().unwrap();
    }

    /// What `blueshift verify` has to say against its data; None if it is sound.
    pub(crate) fn damage(&self) -> Option<String> {
        let mut command = Command::new(&self.binary);
        command.arg("verify").arg("--data-dir").arg(&self.data);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (!output.status.success()).then(|| {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).into_owned()
        })
    }

    /// Forgets what it has said so far.
    pub(crate) fn clear_log(&self) {
        drop(File::create(self.log()).unwrap());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address(place: &str) -> Config {
    let (user, place) = place.split_once('@').expect("user@host");
    let (place, database) = place.split_once('/').expect("host/database");
    let (host, port) = place.rsplit_once(':').expect("host:port");
    let mut config = Config::new();
    config
        .host(host)
        .port(port.parse().expect("a port"))
        .user(user)
        .password(PASSWORD)
        .dbname(database)
        .connect_timeout(Duration::from_secs(20));
    config
}

/// Connects, and runs the connection in a task of its own.
pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // How the connection ended shows in the results of the client's calls.
        let _ended = connection.await;
    });
    Ok(client)
}

/// Ends a process at once. One that is gone already is fine.
pub(crate) fn kill(process: u32) {
    let _status = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Whether it is there, and not merely waited for.
fn is_process(id: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z'))
}
