//! Moves the clock of a process and makes its syncs slow, through a library that the process loads before all others.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::scratch;

const SOURCE: &str = include_str!("preload.c");

/// What the processes with its variables see. It may change while they run.
pub struct Preload {
    library: PathBuf,
    control: PathBuf,
    file: File,
}

impl Preload {
    /// Compiles the library. `directory` must last as long as the processes.
    pub fn new(directory: &Path) -> Self {
        let control = directory.join("preload-control");
        let file = File::create(&control).expect("make a control file");
        file.write_all_at(&[0; 16], 0).expect("write a control file");
        Self { library: compiled(directory), control, file }
    }

    /// The variables that a process needs.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("PRELOAD_CONTROL", self.control.display().to_string()),
        ]
    }

    /// Moves the clock of the processes: ahead, or back if negative.
    pub fn move_clock(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).expect("write a control file");
    }

    /// Lets each sync take so much longer.
    pub fn slow_syncs(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).expect("a short time");
        self.file.write_all_at(&millis.to_ne_bytes(), 8).expect("write a control file");
    }
}

fn compiled(directory: &Path) -> PathBuf {
    let library = directory.join("preload.so");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-x", "c", "-", "-o"])
        .arg(&library)
        .current_dir(scratch())
        .stdin(Stdio::piped())
        .spawn()
        .expect("start cc");
    let mut input = compiler.stdin.take().expect("standard input");
    input.write_all(SOURCE.as_bytes()).expect("give cc the source");
    drop(input);
    assert!(compiler.wait().expect("wait for cc").success(), "cc does not compile preload.c");
    fs::canonicalize(library).expect("the library")
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_clock_moves_and_syncs_are_slow_while_they_are_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let preload = Preload::new(directory.path());
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).envs(preload.variables()).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let ahead = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            run("date", &["+%s"]).parse::<u64>().unwrap().abs_diff(now)
        };
        assert!(ahead() < 60);
        preload.move_clock(7200);
        assert!((7100..7300).contains(&ahead()));
        preload.move_clock(-7200);
        assert!((7100..7300).contains(&ahead()));

        preload.slow_syncs(Duration::from_millis(300));
        let began = Instant::now();
        run("sync", &[directory.path().to_str().unwrap()]);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
}
