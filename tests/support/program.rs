//! Programs of real clients as child processes: started with their own environment, fed, bounded
//! in time, their output kept.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::cluster::Address;

/// A client that needs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The standard output of a program that must have succeeded.
    pub(crate) fn expect_success(self) -> String {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    started: Instant,
}

/// Starts a program and writes `input` to it.
pub(crate) fn start(command: &mut Command, input: &str) -> Running {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{name} cannot be started ({error}); tests/run installs what is missing")
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    std::thread::spawn(move || {
        // A program may end before it has read everything.
        let _closed = stdin.write_all(input.as_bytes());
    });
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    Running { child, stdout, stderr, started: Instant::now() }
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Finished {
    start(command, input).finish()
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn finish(mut self) -> Finished {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
                panic!("the program did not end within {PATIENCE:?}\n{stdout}\n{stderr}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        Finished { status, stdout, stderr }
    }
}

/// psql without a person's settings, printing bare values, for one server.
pub(crate) fn psql(address: &Address) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "-v", "VERBOSITY=verbose"])
        .envs(libpq_environment(address));
    command
}

/// The variables by which every client on libpq finds the server.
pub(crate) fn libpq_environment(address: &Address) -> Vec<(String, String)> {
    [
        ("PGHOST", address.host.clone()),
        ("PGPORT", address.port.to_string()),
        ("PGUSER", address.user.clone()),
        ("PGPASSWORD", address.password.clone()),
        ("PGDATABASE", address.database.clone()),
        ("PGSSLMODE", "disable".to_owned()),
        ("PGCONNECT_TIMEOUT", "20".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The Python that has the database drivers; `tests/run` makes it.
pub(crate) fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("BLUESHIFT_TEST_PYTHON") {
        return PathBuf::from(path);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache")
    });
    cache.join("blueshift/test-python/bin/python")
}

fn read_all(mut output: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _broken = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
