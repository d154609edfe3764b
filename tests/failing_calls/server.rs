//! A server whose calls may fail: it may not start, die or hang, and all of that is an answer.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls};

const PASSWORD: &str = "Correct7Horse";
/// The leader gives its nodes 75 seconds at most.
const READY_WITHIN: Duration = Duration::from_secs(100);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);

/// How a server is started.
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    pub(crate) data_directory: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

/// A server that has said it is ready.
pub(crate) struct Server {
    process: Child,
    url: String,
}

/// What became of a start.
pub(crate) enum Started {
    Ready(Server),
    /// The process has ended by itself.
    Ended(ExitStatus),
    Hung,
}

impl Setup {
    pub(crate) fn start(&self) -> Started {
        let mut command = Command::new(&self.binary);
        command.args(["start", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&self.data_directory);
        command.args(&self.arguments).env("BLUESHIFT_PASSWORD", PASSWORD);
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::options().create(true).append(true).open(&self.log).unwrap());
        let mut process = command.spawn().unwrap();
        let lines = read_lines(process.stdout.take().unwrap());
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(url) = line.strip_prefix("ready: ") {
                        let url = url.trim().replace('@', &format!(":{PASSWORD}@"));
                        return Started::Ready(Server { process, url });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return match wait(&mut process, STOPPED_WITHIN) {
                        Some(status) => Started::Ended(status),
                        None => Started::Hung,
                    };
                }
                Err(RecvTimeoutError::Timeout) => {
                    end(&mut process);
                    return Started::Hung;
                }
            }
        }
    }

    /// What `blueshift verify` says of the directory.
    pub(crate) fn verify(&self) -> Output {
        let mut command = Command::new(&self.binary);
        command.args(["verify", "--data-dir"]).arg(&self.data_directory);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What servers have said in the directory's life.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Server {
    /// A new session, or why there is none.
    pub(crate) async fn connect(&self) -> Result<Client, String> {
        let config: Config = self.url.parse().unwrap();
        match tokio::time::timeout(CONNECTED_WITHIN, config.connect(NoTls)).await {
            Err(_) => Err("hang: no session in time".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok((client, connection))) => {
                tokio::spawn(async move {
                    // How it ended shows in the client's calls.
                    let _ended = connection.await;
                });
                Ok(client)
            }
        }
    }

    /// How the process has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// Asks the server to end; `None` if it does not.
    pub(crate) fn stop(mut self) -> Option<ExitStatus> {
        signal(&self.process, "TERM");
        let status = wait(&mut self.process, STOPPED_WITHIN);
        if status.is_none() {
            end(&mut self.process);
        }
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            end(&mut self.process);
        }
    }
}

fn wait(process: &mut Child, longest: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills it; the nodes of a leader that is gone end by themselves.
fn end(process: &mut Child) {
    let _already_ended = process.kill();
    let _reaped = process.wait();
}

fn signal(process: &Child, name: &str) {
    let id = process.id().to_string();
    // It may have ended meanwhile, which the caller sees when it waits.
    let _status =
        Command::new("kill").arg(format!("-{name}")).arg(id).stderr(Stdio::null()).status();
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

/// Makes `to` a copy of the folder `from`; what was there is gone.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    remove_folder(to);
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Removes a folder and all in it, if it is there.
pub(crate) fn remove_folder(folder: &Path) {
    if folder.try_exists().unwrap() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}
