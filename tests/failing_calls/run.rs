//! One run: a directory as it was prepared, a server in it whose calls fail, the scenario, and then
//! the same directory without failures.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use faults::Call;
use tempfile::TempDir;

use crate::case::{Case, KINDS, Kind, Place};
use crate::control::Control;
use crate::model::Model;
use crate::object_store::ObjectStore;
use crate::scenario::{self, Step};
use crate::server::{Server, Setup, Started, copy_folder, remove_folder};
use crate::session::Session;

/// How much of a server's log is shown of a run that failed.
const LOG_LINES: usize = 5;

/// The server's, in the directory of the bench.
pub(crate) const DATA_DIRECTORY: &str = "data";

/// What runs one after the other share, and runs at the same time do not.
pub(crate) struct Bench {
    directory: TempDir,
    objects: ObjectStore,
    control: Control,
    binary: PathBuf,
    /// The server with the feature `faults`, in which messages can be lost.
    binary_with_faults: Option<PathBuf>,
    library: PathBuf,
    /// Prepared directories and what is in them.
    prepared: Vec<(Place, Model)>,
    says_counts: bool,
}

/// How a run ended.
pub(crate) enum Verdict {
    /// With the codes that statements were refused with.
    Passed(Vec<String>),
    /// What was wrong.
    Failed(String),
    /// There was no such call, only so many.
    NotReached(u64),
}

/// What a run has found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    codes: Vec<String>,
}

impl Bench {
    /// `says_counts`: prints how many calls a run makes.
    pub(crate) async fn new(says_counts: bool) -> Bench {
        let directory = tempfile::Builder::new().prefix("blueshift-calls-").tempdir().unwrap();
        let objects = ObjectStore::start().await;
        objects.put("t.csv", scenario::object());
        let control = Control::create(directory.path());
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let binary = variable("BLUESHIFT_BINARY").expect("BLUESHIFT_BINARY is set");
        let library = variable("BLUESHIFT_FAILING_CALLS_LIBRARY");
        let library = library.expect("BLUESHIFT_FAILING_CALLS_LIBRARY is set");
        assert!(library.is_file(), "the library is not there: {}", library.display());
        let binary_with_faults = variable("BLUESHIFT_BINARY_WITH_FAULTS");
        let prepared = Vec::new();
        Bench {
            directory,
            objects,
            control,
            binary,
            binary_with_faults,
            library,
            prepared,
            says_counts,
        }
    }

    /// Runs the scenario with a call failing, and judges.
    pub(crate) async fn run(&mut self, case: &Case) -> Verdict {
        let model = self.prepare(case.place).await;
        let setup = self.setup_for(case);
        // A log of its own for each run.
        std::fs::write(&setup.log, "").unwrap();
        self.control.arm(case);
        let mut findings = Findings::default();
        let models = self.with_failures(case, &setup, model, &mut findings).await;
        let Findings { mut problems, codes } = findings;
        let (failed, calls) = (self.control.failed(case), self.control.count_of(case));
        let log_with_failures = setup.log_text();
        self.control.disarm();
        if problems.is_empty() {
            self.without_failures(case.place, models, &mut problems).await;
        }
        if log_with_failures.contains("panicked at") {
            problems.push("a panic".to_owned());
        }
        match (failed, problems.is_empty()) {
            (None, true) => Verdict::NotReached(calls),
            (Some(_), true) => Verdict::Passed(codes),
            (call, false) => {
                let call = call.map_or_else(|| "no call".to_owned(), |call| call.to_string());
                let log = loud_lines(&setup.log_text());
                Verdict::Failed(format!("{call}\n    {}\n{log}", problems.join("\n    ")))
            }
        }
    }

    /// Starts, runs the steps, stops. Answers what may be there now.
    async fn with_failures(
        &self,
        case: &Case,
        setup: &Setup,
        model: Model,
        findings: &mut Findings,
    ) -> Vec<Model> {
        let problems = &mut findings.problems;
        let server = match setup.start() {
            Started::Ready(server) => server,
            Started::Hung => {
                problems.push("hang: the start".to_owned());
                return vec![model];
            }
            Started::Ended(status) => {
                if self.control.failed(case).is_none() {
                    problems.push("no start, and no call has failed".to_owned());
                }
                check_end(status, &setup.log_text(), problems);
                return vec![model];
            }
        };
        let mut session = Session::new(case, &self.control, server, vec![model]);
        session.run(&self.steps(case.place)).await;
        if session.problems.is_empty() && session.server.ended().is_none() {
            self.after_failures(case, &mut session).await;
        }
        problems.append(&mut session.problems);
        findings.codes.extend(session.failures.iter().map(|refusal| refusal.code.clone()));
        let models = session.after_restart();
        self.stop(case, session.server, setup, &mut findings.problems);
        models
    }

    /// Nothing fails any more: the server takes writes, unless a sync has failed.
    async fn after_failures(&self, case: &Case, session: &mut Session<'_>) {
        self.control.disarm();
        let before = session.failures.len();
        session.run(&afterwards(case.place)).await;
        let refused = &session.failures[before..];
        if !refused.is_empty() && !session.must_be_fenced() && !case.closes_all_nodes() {
            let texts: Vec<&str> = refused.iter().map(|refusal| refusal.text.as_str()).collect();
            let text = format!("nothing fails any more, and no write is taken: {texts:?}");
            session.problems.push(text);
        }
    }

    fn stop(&self, case: &Case, mut server: Server, setup: &Setup, problems: &mut Vec<String>) {
        if let Some(status) = server.ended() {
            if self.control.failed(case).is_none() {
                problems.push("the server has ended, and no call has failed".to_owned());
            }
            return check_end(status, &setup.log_text(), problems);
        }
        match server.stop() {
            None => problems.push("hang: the stop".to_owned()),
            Some(status) if status.success() => {}
            Some(status) => {
                if self.control.failed(case).is_none() {
                    problems.push("a stop that fails, and no call has failed".to_owned());
                }
                check_end(status, &setup.log_text(), problems);
            }
        }
    }

    /// Starts again without failures: all that was acknowledged is there and nothing else, writes are
    /// taken, and nothing is damaged.
    async fn without_failures(&self, place: Place, models: Vec<Model>, problems: &mut Vec<String>) {
        let setup = self.setup(place);
        let server = match setup.start() {
            Started::Ready(server) => server,
            Started::Hung => return problems.push("hang: the start without failures".to_owned()),
            Started::Ended(status) => {
                return problems.push(format!("does not start again: {status}"));
            }
        };
        let nothing_fails = Case::of_nothing(place);
        self.control.arm(&nothing_fails);
        let mut session = Session::new(&nothing_fails, &self.control, server, models);
        session.run(&afterwards(place)).await;
        if place == Place::Two && session.problems.is_empty() {
            session.wait_for_copies().await;
        }
        problems.extend(session.problems.drain(..).map(|text| format!("after a restart: {text}")));
        match session.server.stop() {
            None => problems.push("hang: the stop without failures".to_owned()),
            Some(status) if !status.success() => {
                problems.push(format!("the stop without failures: {status}"));
            }
            Some(_) => {}
        }
        let output = setup.verify();
        let text = String::from_utf8_lossy(&output.stdout);
        let names_all = text
            .lines()
            .filter(|line| line.contains("does not name"))
            .all(|line| line.contains("; 0 that the catalog does not name"));
        if !output.status.success() || !names_all {
            let error = String::from_utf8_lossy(&output.stderr);
            problems.push(format!("verify: {}{error}", text.trim().replace('\n', "; ")));
        }
    }

    fn steps(&self, place: Place) -> Vec<Step> {
        match place {
            Place::First => scenario::first_steps(),
            Place::One | Place::Two => scenario::steps(&self.objects.keys()),
        }
    }

    /// Makes the directory what it was before the first run; answers what is in it.
    async fn prepare(&mut self, place: Place) -> Model {
        let data = self.directory.path().join(DATA_DIRECTORY);
        if place == Place::First {
            remove_folder(&data);
            return Model::default();
        }
        let kept = self.directory.path().join(format!("prepared-{}", place as u8));
        if let Some((_, model)) = self.prepared.iter().find(|(known, _)| *known == place) {
            copy_folder(&kept, &data);
            return model.clone();
        }
        remove_folder(&data);
        let nothing_fails = Case::of_nothing(place);
        self.control.arm(&nothing_fails);
        let Started::Ready(server) = self.setup(place).start() else {
            panic!("no start: {}", self.setup(place).log_text())
        };
        let models = vec![Model::default()];
        let mut session = Session::new(&nothing_fails, &self.control, server, models);
        session.run(&scenario::preparation()).await;
        assert_eq!(session.problems, Vec::<String>::new(), "the preparation");
        let model = session.models.remove(0);
        assert!(session.server.stop().is_some_and(|status| status.success()), "a clean stop");
        copy_folder(&data, &kept);
        self.prepared.push((place, model.clone()));
        self.count_calls(place, &nothing_fails, &model).await;
        copy_folder(&kept, &data);
        model
    }

    /// Runs the scenario without failures: it must be right as it is. Says how many calls it makes.
    async fn count_calls(&self, place: Place, nothing_fails: &Case, model: &Model) {
        self.control.arm(nothing_fails);
        let mut findings = Findings::default();
        let setup = self.setup_for(nothing_fails);
        self.with_failures(nothing_fails, &setup, model.clone(), &mut findings).await;
        let problems = findings.problems;
        assert_eq!(problems, Vec::<String>::new(), "without failures: {}", setup.log_text());
        let counts = KINDS.map(|kind| format!("{kind:?} {}", self.control.count(kind)));
        assert!(self.control.count(Kind::Write) > 0, "the library counts");
        if !self.says_counts {
            return;
        }
        println!("calls of {place:?}: {}", counts.join(", "));
        if place == Place::Two && self.binary_with_faults.is_some() {
            let counts = Call::ALL.iter().map(|call| {
                let count = self.control.count_messages(*call);
                format!("{} {count}", call.name())
            });
            println!("messages of {place:?}: {}", counts.collect::<Vec<_>>().join(", "));
        }
    }

    /// How a server runs whose calls may fail.
    fn setup_for(&self, case: &Case) -> Setup {
        let mut setup = self.setup(case.place);
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let [calls, messages] = self.control.paths().map(text);
        setup.environment.extend([
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("FAILING_CALLS_DIRECTORY".to_owned(), text(&setup.data_directory)),
            ("FAILING_CALLS_CONTROL".to_owned(), calls),
            ("BLUESHIFT_FAULT_CALLS".to_owned(), messages),
        ]);
        if let (true, Some(binary)) = (!case.is_file(), &self.binary_with_faults) {
            setup.binary = binary.clone();
        }
        setup
    }

    fn setup(&self, place: Place) -> Setup {
        let arguments: &[&str] = match place {
            Place::First | Place::One => &[],
            Place::Two => &["--nodes", "2", "--slices", "2"],
        };
        Setup {
            binary: self.binary.clone(),
            data_directory: self.directory.path().join(DATA_DIRECTORY),
            log: self.directory.path().join("log"),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            environment: self.objects.environment(),
        }
    }
}

fn afterwards(place: Place) -> Vec<Step> {
    match place {
        Place::First => scenario::afterwards_first(),
        Place::One | Place::Two => scenario::afterwards(),
    }
}

/// A process that ends by itself says why and is not ended by a signal.
fn check_end(status: ExitStatus, log: &str, problems: &mut Vec<String>) {
    if status.code().is_none_or(|code| code == 0) {
        problems.push(format!("the server has ended: {status}"));
    }
    if !log.contains("rror") {
        problems.push("the server has ended without a word".to_owned());
    }
}

/// The last warnings and errors of a log.
fn loud_lines(log: &str) -> String {
    let is_loud = |line: &&str| {
        ["WARN", "ERROR", "panicked", "Error", "rror:"].iter().any(|word| line.contains(word))
    };
    let lines: Vec<&str> = log.lines().filter(is_loud).collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    lines[first..].iter().map(|line| format!("      | {line}\n")).collect()
}
