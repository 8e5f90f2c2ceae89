//! A server in a process of the tests' own: says "ready" once it serves, answers questions line by line, and
//! ends when its standard input ends, so that none outlives its test run, however that ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::output::tail_of;

/// How long a server may take to start, stop or answer; with a million events in its store it needs some.
const PATIENCE: Duration = Duration::from_secs(120);

/// One server: a directory that stays while processes come and go.
pub struct Server {
    directory: TempDir,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
}

impl Server {
    /// A server that does not run yet, with a new directory that `name` is part of the name of.
    pub fn new(name: &str) -> Self {
        Self { directory: new_directory(name), process: Mutex::new(None) }
    }

    /// Its own directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts `command` and waits until it says "ready".
    ///
    /// # Errors
    /// It ended, or said nothing, before.
    pub fn launch(&self, mut command: Command) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_file());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.expect("open a server's log"));
        let mut child = command.spawn().expect("start a server");
        let questions = child.stdin.take().expect("standard input");
        let answers = lines_of(child.stdout.take().expect("standard output"));
        loop {
            match answers.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(_) => {}
                Err(_) => {
                    child.kill().expect("kill a server");
                    child.wait().expect("wait for a server");
                    return Err(format!("the server in {} did not start", self.directory().display()));
                }
            }
        }
        *self.process() = Some(Process { child, questions, answers });
        Ok(())
    }

    /// Launches what `command` makes of `free` ports, again for as long as one of them is taken: between
    /// looking for a free port and using it somebody else may have taken it. Returns the ports.
    pub fn launch_on<P: Copy>(&self, free: impl Fn() -> P, command: impl Fn(P) -> Command) -> P {
        loop {
            let ports = free();
            let Err(reason) = self.launch(command(ports)) else { return ports };
            let taken = self.log().to_ascii_lowercase().contains("address already in use");
            assert!(taken, "{reason}\n{}", self.log_tail());
            fs::remove_file(self.log_file()).expect("remove a server's log");
        }
    }

    /// The answer to a line.
    pub fn ask(&self, question: &str) -> String {
        let mut process = self.process();
        let process = process.as_mut().expect("a server that runs");
        writeln!(process.questions, "{question}").expect("ask a server");
        let answer = process.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("{question}: {error}\n{}", self.log_tail()))
    }

    /// Stops it cleanly, as an operator would.
    pub fn stop(&self) {
        assert_eq!(self.ask("stop"), "stopped", "{}", self.log_tail());
        let mut process = self.process().take().expect("a server that ran");
        process.child.wait().expect("wait for a server");
    }

    /// Kills it at once (SIGKILL), if it runs: what it had not written is gone.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.child.kill().expect("kill a server");
            process.child.wait().expect("wait for a server");
        }
    }

    /// Stops its clock (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process();
        let process = process.as_ref().expect("a server that runs");
        kill_process(Pid::from_child(&process.child), signal).expect("signal a server");
    }

    /// The time that processors have spent on it, in user and kernel mode.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.process().as_ref().expect("a server that runs").child.id())
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of what it logged, with its place: for failures.
    pub fn log_tail(&self) -> String {
        tail_of(&self.log_file())
    }

    /// Where it logs.
    pub fn log_file(&self) -> PathBuf {
        self.directory().join("server.log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
            self.directory.disable_cleanup(true);
        }
        self.kill();
    }
}

/// The time that processors have spent on a process that runs, in user and kernel mode.
pub fn processor_time(process: u32) -> Duration {
    let stat = proc(process, "stat");
    // Fields 14 and 15; the second, the name in parentheses, may hold blanks.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("few ticks")
}

/// What the kernel tells of a process that runs.
pub fn proc(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).expect("a process that runs")
}

/// Directories lie in Cargo's own for integration tests and are named after the process, so that a later
/// run removes what an earlier one, killed or failed, has left.
fn new_directory(name: &str) -> TempDir {
    let parent = scratch().join("brokers");
    fs::create_dir_all(&parent).expect("make a directory for servers");
    for entry in fs::read_dir(&parent).expect("list the directory of servers").flatten() {
        let of = entry.file_name().to_string_lossy().into_owned();
        let alive = of.split('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !alive {
            // Another run may be removing it too.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let prefix = format!("{}-{name}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).expect("make a server's directory")
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(16);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Where cargo puts the programs of this build: a test's own program stands in `deps` below it.
fn built() -> PathBuf {
    let own = std::env::current_exe().expect("know the own program");
    own.ancestors().nth(2).expect("a test stands in target/<profile>/deps").to_owned()
}

/// The bridge, as it was built for this test.
pub fn program() -> PathBuf {
    built().join("atdata-bridge")
}

/// A directory for what tests write; cargo's `CARGO_TARGET_TMPDIR`.
pub fn scratch() -> PathBuf {
    let scratch = built().with_file_name("tmp");
    fs::create_dir_all(&scratch).expect("make a directory for what tests write");
    scratch
}
