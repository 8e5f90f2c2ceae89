//! Runs the real program as an operator does: as a process, with environment variables and signals.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::broker::{Broker, Protocol};
use super::disk::{self, SmallDisk};
use super::output::tail_of;
use super::process::{proc, processor_time};
use super::process::{program, scratch};
use super::stomp::Login;
use super::wait_until;

/// The settings of one bridge, under the names that operators use. Each start is a new process with the same
/// settings, as after a crash.
pub struct Setup {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    files: PathBuf,
    dead_letters: PathBuf,
    preparation: Option<String>,
    disk: Option<SmallDisk>,
    mute: bool,
    home: TempDir,
}

impl Setup {
    /// A bridge that mirrors `<destination>.RTO.<namespace>` into its own files.
    pub fn new(
        broker: &Broker,
        protocol: Protocol,
        namespace: &str,
        destination: &str,
        connection: &str,
    ) -> Self {
        Self::at(&broker.url_of(protocol), namespace, destination, connection)
    }

    /// Like [`new`](Self::new), with the broker at `url`, which must have the customer's login.
    pub fn at(url: &str, namespace: &str, destination: &str, connection: &str) -> Self {
        let home = tempfile::tempdir_in(scratch()).expect("make a directory for a bridge");
        let (files, dead_letters) = (home.path().join("files"), home.path().join("dead_letters"));
        let login = Login::customer();
        let setup = Self {
            program: program(),
            arguments: Vec::new(),
            variables: Vec::new(),
            files,
            dead_letters,
            preparation: None,
            disk: None,
            mute: false,
            home,
        };
        let (files, dead_letters) =
            (setup.files.display().to_string(), setup.dead_letters.display().to_string());
        setup
            .set("SOURCE__URL", url)
            .set("SOURCE__USERNAME", login.username)
            .set("SOURCE__PASSWORD", login.password)
            .set("SOURCE__NAMESPACE", namespace)
            .set("SOURCE__DESTINATION_ID", destination)
            .set("SOURCE__CONNECTION_ID", connection)
            .set("SINKS__FILE__DIRECTORY", files)
            .set("DEAD_LETTERS__DIRECTORY", dead_letters)
            // Tests run at once, so the system picks a free port; the log has it.
            .set("ADMIN__LISTEN", "127.0.0.1:0")
    }

    /// Sets `BRIDGE__<name>`; a later value replaces an earlier one.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        let name = format!("BRIDGE__{name}");
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    /// Sets `BRIDGE__NAME` for each `NAME=value`.
    pub fn set_all(self, settings: &[String]) -> Self {
        settings.iter().fold(self, |setup, setting| {
            let (name, value) = setting.split_once('=').expect("NAME=value");
            setup.set(name, value)
        })
    }

    /// Sets a variable of any name.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Removes `BRIDGE__<name>`.
    pub fn unset(mut self, name: &str) -> Self {
        let name = format!("BRIDGE__{name}");
        self.variables.retain(|(known, _)| *known != name);
        self
    }

    /// Runs another build of the bridge, if there is one.
    pub fn other_build(self, program: Option<&Path>) -> Self {
        match program {
            Some(program) => self.program(program.to_owned()),
            None => self,
        }
    }

    /// Runs another program, which has its own sinks.
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Puts the files on a disk of `mib` MiB, which exists as long as the process and is only visible through
    /// [`Bridge::inside`]. Call [`disk::small_disks`] first.
    pub fn small_disk(self, mib: u32) -> Self {
        self.prepared(&disk::small_disk(mib))
    }

    /// Puts the files on a disk of `mib` MiB for all processes. Call [`disk::small_disks`] first.
    pub fn lasting_small_disk(mut self, mib: u32) -> Self {
        self.disk = Some(SmallDisk::mount(&self.files, mib));
        self
    }

    /// The disk of [`lasting_small_disk`](Self::lasting_small_disk).
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Runs a shell script before each start, with the directories of the files and the dead letters in `$1`
    /// and `$2`. Only that process sees what the script mounts. Call [`disk::small_disks`] first.
    pub fn prepared(mut self, script: &str) -> Self {
        self.preparation = Some(script.to_owned());
        self
    }

    /// Removes the script again.
    pub fn unprepared(mut self) -> Self {
        self.preparation = None;
        self
    }

    /// Discards standard output (the log goes elsewhere). With `kind = "stdout"`, that is a sink that costs
    /// almost nothing.
    pub fn mute(mut self) -> Self {
        self.mute = true;
        self
    }

    /// A directory of its own, which exists as long as this.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The directory of the file sink.
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// The directory of the dead letters.
    pub fn dead_letters(&self) -> &Path {
        &self.dead_letters
    }

    pub fn start(&self) -> Bridge {
        self.start_with(&[])
    }

    /// The log of all its processes.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("bridge.log")
    }

    /// Starts a process with more arguments.
    pub fn start_with(&self, arguments: &[&str]) -> Bridge {
        Bridge::spawn(self.command(arguments), self.log_file(), self.mute)
    }

    /// Starts a process of another build of the bridge.
    pub fn start_build(&self, program: &Path) -> Bridge {
        Bridge::spawn(self.command_of(program, &[]), self.log_file(), self.mute)
    }

    /// Runs a process with more arguments to its end. Returns its exit code, standard output and standard error. It
    /// blocks, so the verb must end by itself.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command(arguments);
        let Output { status, stdout, stderr } =
            command.stdin(Stdio::null()).output().expect("run the bridge");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    /// The command that [`start_with`](Self::start_with) executes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.program, arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = match (&self.preparation, &self.disk) {
            (Some(script), _) => disk::prepared(program, script, &[&self.files, &self.dead_letters]),
            (None, Some(disk)) => disk.command(program),
            (None, None) => Command::new(program),
        };
        command
            .args(&self.arguments)
            .args(arguments)
            // The environment of the tester's shell must not change the settings.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path());
        command
    }
}

/// A running bridge; killed when dropped.
pub struct Bridge {
    child: Child,
    log: PathBuf,
    /// The length of the log when the process was started.
    began: usize,
}

impl Bridge {
    /// Starts `command`, which is the bridge or executes it. The process appends its log to `log`, and its
    /// standard output too, unless `mute` is set.
    pub fn spawn(mut command: Command, log: PathBuf, mute: bool) -> Self {
        let output = File::options().create(true).append(true).open(&log).expect("open the bridge's log");
        let errors = output.try_clone().expect("open the bridge's log");
        command.stdin(Stdio::null()).stdout(if mute { Stdio::null() } else { output.into() }).stderr(errors);
        let began = fs::metadata(&log).map_or(0, |file| file.len());
        let child = command.spawn().expect("start the bridge");
        Self { child, log, began: usize::try_from(began).expect("a length") }
    }

    /// The position in the log at which the lines of this process begin.
    pub fn began(&self) -> usize {
        self.began
    }

    /// Whether SIGTERM stops this process cleanly by now. In its first moments a signal ends it at once.
    pub fn handles_sigterm(&self) -> bool {
        let status = proc(self.child.id(), "status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("signals").trim();
        let caught = u64::from_str_radix(caught, 16).expect("a mask");
        caught & (1 << (Signal::TERM.as_raw() - 1)) != 0
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process (SIGSTOP): its connections stay open, but it does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal the bridge");
    }

    /// Kills the process at once (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().expect("kill the bridge");
        self.child.wait().expect("wait for the bridge");
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        wait_until("the bridge ends", limit, || self.status().is_some()).await;
        self.status().expect("the bridge has ended")
    }

    /// The exit status, if the process has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("check whether the bridge has ended")
    }

    /// `path` as this process sees it; see [`Setup::small_disk`].
    pub fn inside(&self, path: &Path) -> PathBuf {
        disk::inside(self.child.id(), path)
    }

    /// The memory in use (resident set), in bytes.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The peak memory (resident set), in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, entry: &str) -> u64 {
        let status = proc(self.child.id(), "status");
        let kib = status.lines().find_map(|line| line.strip_prefix(entry)?.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<u64>().ok()).expect("so many kB") * 1024
    }

    /// The processor time used, in user and kernel mode.
    pub fn processor_time(&self) -> Duration {
        processor_time(self.child.id())
    }

    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// The log of this process and of the earlier ones with the same [`Setup`].
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", tail_of(&self.log));
        }
        // An error means that the process has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
