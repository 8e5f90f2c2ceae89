//! Runs a server as a process. It prints "ready" when it can serve, answers each input line with one line,
//! and ends when its standard input ends. So no server outlives its test run, however that ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::output::tail_of;

/// The time that a server may take to start, stop or answer. With a million events in its store, it needs a
/// while.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server with a directory that survives restarts of its process.
pub struct Server {
    directory: TempDir,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Server {
    /// A server that does not run yet, with a new directory whose name contains `name`.
    pub fn new(name: &str) -> Self {
        Self { directory: new_directory(name), process: Mutex::new(None) }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts `command` and waits until it prints "ready".
    ///
    /// # Errors
    /// The process ended, or printed nothing in time.
    pub fn launch(&self, mut command: Command) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_file());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log.expect("open a server's log"));
        let mut child = command.spawn().expect("start a server");
        let requests = child.stdin.take().expect("standard input");
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
        *self.process() = Some(Process { child, requests, answers });
        Ok(())
    }

    /// Starts `command` with `free` ports and returns the ports. Repeats this while another process has taken
    /// a port between the search and its use.
    pub fn launch_on<P: Copy>(&self, free: impl Fn() -> P, command: impl Fn(P) -> Command) -> P {
        loop {
            let ports = free();
            let Err(reason) = self.launch(command(ports)) else { return ports };
            let taken = self.log().to_ascii_lowercase().contains("address already in use");
            assert!(taken, "{reason}\n{}", self.log_tail());
            fs::remove_file(self.log_file()).expect("remove a server's log");
        }
    }

    /// Sends a line and returns the line that the server answers.
    pub fn ask(&self, request: &str) -> String {
        let mut process = self.process();
        let process = process.as_mut().expect("a running server");
        writeln!(process.requests, "{request}").expect("ask a server");
        let answer = process.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| panic!("{request}: {error}\n{}", self.log_tail()))
    }

    /// Stops the server cleanly, as an operator does.
    pub fn stop(&self) {
        assert_eq!(self.ask("stop"), "stopped", "{}", self.log_tail());
        let mut process = self.process().take().expect("a server that ran");
        process.child.wait().expect("wait for a server");
    }

    /// Stops a server that takes no requests (SIGTERM), and waits for its end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
        let mut process = self.process().take().expect("a server that ran");
        process.child.wait().expect("wait for a server");
    }

    /// Kills the server at once (SIGKILL) if it runs. Data that it has not written is lost.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.child.kill().expect("kill a server");
            process.child.wait().expect("wait for a server");
        }
    }

    /// Stops the process (SIGSTOP): connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Makes the server read its configuration again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process();
        let process = process.as_ref().expect("a running server");
        kill_process(Pid::from_child(&process.child), signal).expect("signal a server");
    }

    /// The processor time used, in user and kernel mode.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.process().as_ref().expect("a running server").child.id())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of the log, with its path, for messages of failed tests.
    pub fn log_tail(&self) -> String {
        tail_of(&self.log_file())
    }

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

/// The processor time that a running process has used, in user and kernel mode.
pub fn processor_time(process: u32) -> Duration {
    let stat = proc(process, "stat");
    // Fields 14 and 15. The second field, the name in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("few ticks")
}

/// The content of a file in `/proc` of a running process.
pub fn proc(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).expect("a running process")
}

/// Directories are in Cargo's directory for integration tests. Their names begin with the process id, so that
/// a later run can remove the directories of a run that was killed or failed.
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

/// The directory of the programs of this build; the test programs are in `deps` below it.
fn built() -> PathBuf {
    let own = std::env::current_exe().expect("find the path of this program");
    own.ancestors().nth(2).expect("a test program in target/<profile>/deps").to_owned()
}

/// The bridge that was built for this test.
pub fn program() -> PathBuf {
    built().join("atdata-bridge")
}

/// The absolute path of another build of the bridge, from an argument.
pub fn other_build(path: &str) -> io::Result<PathBuf> {
    Path::new(path).canonicalize()
}

/// The directory for files that tests write: Cargo's `CARGO_TARGET_TMPDIR`.
pub fn scratch() -> PathBuf {
    let scratch = built().with_file_name("tmp");
    fs::create_dir_all(&scratch).expect("make a directory for files of tests");
    scratch
}
