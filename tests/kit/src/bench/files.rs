//! Provides a directory for files, as a destination of benchmarks.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Destination, Route};
use crate::bridge::Setup;
use crate::output::each_line;
use crate::process::scratch;

/// A directory with one directory for each run.
pub struct Files {
    home: TempDir,
    made: u32,
}

impl Files {
    /// Makes the directory on the disk of the test servers.
    pub fn start() -> Self {
        let home = tempfile::tempdir_in(scratch()).expect("make a directory for files");
        Self { home, made: 0 }
    }

    /// The current directory.
    pub fn directory(&self) -> PathBuf {
        self.home.path().join(format!("bench{:03}", self.made))
    }
}

impl Destination for Files {
    const NAME: &'static str = "files";

    async fn renew(&mut self) {
        drop(fs::remove_dir_all(self.directory()));
        self.made += 1;
        fs::create_dir(self.directory()).expect("make a directory");
    }

    /// There is no network, so every route is direct.
    fn configure(&self, setup: Setup, _route: Route) -> Setup {
        setup.set("SINKS__FILE__DIRECTORY", self.directory().display().to_string())
    }

    async fn count(&mut self) -> u64 {
        let mut count = 0;
        each_line(&self.directory(), |_| count += 1);
        count
    }
}
