//! A cluster whose processes are on hosts of their own: network namespaces of the kernel, joined by
//! a switch whose cables can be pulled. Nothing of the machine's own network is touched. Needs root.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::cluster::{Address, PASSWORD};
use crate::support::{self, program};

const READY_WITHIN: Duration = Duration::from_secs(60);
const CLUSTER_PORT: u16 = 7001;

/// A leader and compute nodes, each on a host of its own. Dropping it ends them all.
pub(crate) struct HostCluster {
    /// Distinguishes the names of this test's hosts.
    name: String,
    nodes: usize,
    directory: TempDir,
    processes: Vec<Child>,
}

/// A host: the leader's or a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Leader,
    Node(usize),
}

impl Host {
    fn number(self) -> usize {
        match self {
            Host::Leader => 0,
            Host::Node(node) => node + 1,
        }
    }

    fn address(self) -> String {
        format!("10.213.77.{}", self.number() + 1)
    }
}

impl HostCluster {
    /// Starts a cluster of that many nodes with two slices each.
    pub(crate) fn start(nodes: usize) -> HostCluster {
        let directory = tempfile::Builder::new().prefix("blueshift-hosts-").tempdir().unwrap();
        let name = format!("bs{}", std::process::id());
        let mut cluster = HostCluster { name, nodes, directory, processes: Vec::new() };
        cluster.make_hosts();
        let certificates = cluster.directory.path().join("certificates");
        let mut names = vec!["leader".to_owned()];
        names.extend((0..nodes).map(|node| format!("node-{node}")));
        for name in &names {
            let mut command = Command::new(binary());
            command.arg("cert").arg("--directory").arg(&certificates).arg(name);
            program::run(&mut command, "").expect_success();
        }
        for node in 0..nodes {
            let file = cluster.configuration(Host::Node(node));
            let process = cluster.process(Host::Node(node), "compute", &file);
            cluster.processes.push(process);
        }
        let file = cluster.configuration(Host::Leader);
        let mut leader = cluster.process(Host::Leader, "leader", &file);
        let mut line = String::new();
        let stdout = leader.stdout.take().unwrap();
        cluster.processes.push(leader);
        let begun = Instant::now();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: ") && begun.elapsed() < READY_WITHIN, "{line:?}");
        cluster
    }

    fn make_hosts(&self) {
        ip(&["netns", "add", &self.switch()]);
        ip_in(&self.switch(), &["link", "add", "bridge", "type", "bridge"]);
        ip_in(&self.switch(), &["link", "set", "bridge", "up"]);
        for host in self.hosts() {
            let space = self.space(host);
            ip(&["netns", "add", &space]);
            let port = port(host);
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"];
            ip_in(&self.switch(), &[&pair[..], &[&space]].concat());
            ip_in(&self.switch(), &["link", "set", &port, "master", "bridge", "up"]);
            let address = format!("{}/24", host.address());
            ip_in(&space, &["address", "add", &address, "dev", "eth0"]);
            ip_in(&space, &["link", "set", "eth0", "up"]);
            ip_in(&space, &["link", "set", "lo", "up"]);
        }
    }

    fn configuration(&self, host: Host) -> std::path::PathBuf {
        let name = match host {
            Host::Leader => "leader".to_owned(),
            Host::Node(node) => format!("node-{node}"),
        };
        let folder = self.directory.path().display().to_string();
        let nodes: Vec<String> = (0..self.nodes)
            .map(|node| format!("\"{}:{CLUSTER_PORT}\"", Host::Node(node).address()))
            .collect();
        let (listen, which) = match host {
            Host::Leader => ("127.0.0.1:5439".to_owned(), String::new()),
            Host::Node(node) => {
                (format!("{}:{CLUSTER_PORT}", host.address()), format!("node = {node}\n"))
            }
        };
        let text = format!(
            "data_dir = \"{folder}/{name}\"\nlisten = \"{listen}\"\n[cluster]\n{which}\
             nodes = [{}]\nslices_per_node = 2\nauthority = \"{folder}/certificates/authority.pem\"\n\
             certificate = \"{folder}/certificates/{name}.pem\"\n\
             key = \"{folder}/certificates/{name}.key\"\n",
            nodes.join(", ")
        );
        let file = self.directory.path().join(format!("{name}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    fn process(&self, host: Host, mode: &str, file: &Path) -> Child {
        let log = File::create(file.with_extension("log")).unwrap();
        self.command_on(host, &binary())
            .args([mode, "--config"])
            .arg(file)
            .env("BLUESHIFT_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn command_on(&self, host: Host, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(host), program]);
        command
    }

    /// psql on the leader's host.
    pub(crate) fn psql(&self) -> Command {
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: 5439,
            user: "awsuser".to_owned(),
            password: PASSWORD.to_owned(),
            database: "dev".to_owned(),
        };
        let plain = program::psql(&address);
        let mut command = self.command_on(Host::Leader, "psql");
        command.args(plain.get_args());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }

    /// Pulls a host's cable: packets from and to it vanish.
    pub(crate) fn cut(&self, host: Host) {
        ip_in(&self.switch(), &["link", "set", &port(host), "nomaster"]);
    }

    /// Plugs it in again.
    pub(crate) fn heal(&self, host: Host) {
        ip_in(&self.switch(), &["link", "set", &port(host), "master", "bridge"]);
    }

    /// Packets between two hosts vanish, and only those.
    pub(crate) fn cut_between(&self, one: Host, other: Host) {
        for (at, to) in [(one, other), (other, one)] {
            let nobody = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"];
            let address = to.address();
            let arguments = [&["neigh", "replace", &address], &nobody[..]].concat();
            ip_in(&self.space(at), &arguments);
        }
    }

    /// They reach each other again.
    pub(crate) fn heal_between(&self, one: Host, other: Host) {
        for (at, to) in [(one, other), (other, one)] {
            ip_in(&self.space(at), &["neigh", "delete", &to.address(), "dev", "eth0"]);
        }
    }

    fn hosts(&self) -> Vec<Host> {
        std::iter::once(Host::Leader).chain((0..self.nodes).map(Host::Node)).collect()
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn space(&self, host: Host) -> String {
        format!("{}-{}", self.name, host.number())
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.directory.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read(entry.path()).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let tail = log.lines().rev().take(15).collect::<Vec<_>>();
                text.push_str(&format!("--- {}\n", entry.path().display()));
                text.extend(tail.into_iter().rev().map(|line| format!("{line}\n")));
            }
        }
        text
    }
}

impl Drop for HostCluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _already_ended = process.kill();
            let _reaped = process.wait();
        }
        let spaces = self.hosts().into_iter().map(|host| self.space(host));
        for space in spaces.chain([self.switch()]) {
            let _gone = Command::new("ip").args(["netns", "delete", &space]).status();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn port(host: Host) -> String {
    format!("port{}", host.number())
}

fn binary() -> String {
    support::cluster::binary().to_string_lossy().into_owned()
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("ip cannot be started: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {text}(this test needs root)", arguments.join(" "));
}

fn ip_in(space: &str, arguments: &[&str]) {
    ip(&[&["-n", space], arguments].concat());
}
